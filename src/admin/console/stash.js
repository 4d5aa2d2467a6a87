// One stash, section by section. What decant tells is drawn as it comes; which guards, members or shards there are is its to say.

import { byId, draw, el, fact, mark, say, spelled, time } from './dom.js';
import { PHASES, position } from './phases.js';
import { count, length, plural } from './text.js';

function phases(stash) {
  const now = position(stash.phase);
  draw(byId('phases'), [stash.phase, stash.state, stash.ahead], () =>
    PHASES.map((phase, at) => {
      const where = at < now ? 'past' : at === now ? 'now' : 'ahead';
      const some = phase.name === stash.ahead?.phase ? `in force for ${stash.ahead.text}` : 'ahead';
      const word = { past: 'passed', now: stash.state === 'moving' ? 'moving here' : 'in force', ahead: some }[where];
      return el(
        'li',
        { class: where, 'aria-current': where === 'now' ? 'step' : null },
        el('span', { class: 'knot', 'aria-hidden': 'true' }, where === 'past' ? '✓' : where === 'now' ? '●' : String(at + 1)),
        el('span', { class: 'phase-name' }, phase.name),
        el('span', { class: 'phase-word' }, word),
        el('span', { class: 'more' }, `reads ${phase.reads}`),
        el('span', { class: 'more' }, `writes ${phase.writes}`),
      );
    }),
  );
}

function record(stash) {
  draw(byId('record'), [stash.phase, stash.state, stash.since_unix_ms, stash.by, stash.reason, stash.forced, stash.ahead], () => {
    if (!stash.phase) return ['The phase is not confirmed yet: nothing is served.'];
    const forced = stash.forced ? [el('span', { class: 'tag warn' }, 'forced'), ' '] : [];
    const moving = stash.state === 'moving' ? [el('span', { class: 'tag warn' }, 'moving'), ' '] : [];
    const some = stash.ahead ? [el('span', { class: 'tag' }, `${stash.ahead.text} in ${stash.ahead.phase}`), ' '] : [];
    return [...moving, ...forced, ...some, 'since ', time(stash.since_unix_ms), ', by ', el('b', {}, stash.by), ': ', el('q', {}, stash.reason)];
  });
  const ahead = PHASES.slice(position(stash.phase) + 1).map((phase) => phase.name);
  const left = ahead.length ? `${plural(ahead.length, 'step')} until Redis can go: ${ahead.join(', ')}.` : 'Redis can go: nothing asks it any more.';
  say(byId('left'), stash.phase ? left : '');
}

/** decant says what is wrong; this only draws it. True if the list has changed. */
function attention(stash) {
  return draw(byId('attention'), stash.attention, () => {
    if (!stash.attention.length) return [el('li', {}, mark('ok', 'well'), el('span', {}, 'Nothing: all is as it should be.'))];
    return stash.attention.map((one) => el('li', {}, mark(one.level, one.level === 'bad' ? 'trouble' : 'look at it'), el('span', {}, ...spelled(one.what), el('span', { class: 'more' }, ...spelled(one.todo)))));
  });
}

function shard(shard, inUse) {
  const name = `Redis ${shard.name}`;
  if (!inUse) return fact('none', 'retired', name, 'retired', 'no connection is held');
  const fence = shard.fence_differs ? `fence ${shard.fence_version}, which this decant does not follow` : shard.fence_version === null ? 'no fence' : `fence ${shard.fence_version}`;
  if (!shard.up) return fact('bad', 'down', name, 'down', shard.why_down ?? 'no connection', shard.address);
  if (isOpen(shard.breaker)) return fact('bad', 'down', name, 'connected, but does not answer', shard.address, 'it is not asked but for probes');
  return fact(shard.fence_differs || shard.fence_version === null ? 'warn' : 'ok', 'up', name, 'up', shard.address, fence);
}

/** A circuit breaker that lets only probes through. */
const isOpen = (breaker) => breaker === 'open' || breaker === 'half-open';

function tiers(stash) {
  const from = [stash.redis_in_use, stash.kask_up, stash.kask_breaker, stash.shards.map(({ name, address, up, why_down, breaker, fence_version, fence_differs }) => [name, address, up, why_down, breaker, fence_version, fence_differs])];
  draw(byId('tiers'), from, () => {
    const kask = stash.kask_up ? fact('ok', 'up', 'Kask', 'up') : fact('bad', 'down', 'Kask', 'does not answer', isOpen(stash.kask_breaker) && 'it is not asked but for probes');
    const redis = stash.shards.map((one) => shard(one, stash.redis_in_use));
    return [kask, ...(redis.length ? redis : [fact('none', 'none', 'Redis', 'none is configured')])];
  });
}

function between(stash) {
  const sum = (name) => stash.shards.reduce((all, one) => all + (one[name] ?? 0), 0);
  const oldest = Math.max(0, ...stash.shards.map((one) => one.oldest_ms ?? 0));
  const damaged = sum('damaged');
  // What was not looked at just now is not known to hold still.
  const unseen = Math.max(0, ...stash.shards.map((one) => one.seen_ms_ago ?? Infinity));
  const old = unseen < 2000 ? null : Number.isFinite(unseen) ? `as last seen ${length(unseen)} ago` : 'not looked at yet';
  // What changes with every look is told by the second.
  const from = [old, stash.redis_in_use, sum('to_kask'), sum('to_redis'), damaged, Math.floor(oldest / 1000), stash.keys_pending, stash.in_flight, stash.alone];
  draw(byId('between'), from, () => {
    const facts = [];
    if (stash.redis_in_use) {
      const late = oldest > 120000 || old;
      const age = oldest > 0 ? `the oldest is ${length(oldest)} old` : null;
      facts.push(fact(late ? 'warn' : 'ok', late ? 'look at it' : 'well', 'Open intents', `${count(sum('to_kask'))} to Kask, ${count(sum('to_redis'))} to Redis`, age, old));
      facts.push(fact(damaged ? 'bad' : old ? 'warn' : 'ok', damaged ? 'trouble' : old ? 'look at it' : 'well', 'Damaged', count(damaged), damaged && 'decant outbox damaged', old));
    }
    facts.push(fact('none', 'for information', 'Read with care', plural(stash.keys_pending, 'key')));
    facts.push(fact('none', 'for information', 'Under way', plural(stash.in_flight, 'operation')));
    const alone = stash.alone;
    if (alone?.since) facts.push(fact(alone.trouble ? 'bad' : 'warn', 'unclean', 'Way back', `${plural(alone.keys, 'key')} to be healed`, alone.trouble));
    return facts;
  });
}

function bar(level, word, name, ratio, ...more) {
  // Never all of it before it is all of it.
  const percent = Math.floor(ratio * 100);
  const shown = el('span', { class: 'bar-value' }, el('progress', { max: 100, value: percent, 'aria-label': name }, `${percent} %`), ` ${percent} %`);
  return fact(level, word, name, shown, ...more);
}

/** How a run stands, by its state: all but running and finished want a look. */
const RUNS = { running: ['none', 'under way'], finished: ['ok', 'well'], paused: ['warn', 'paused'], cancelled: ['none', 'cancelled'], void: ['warn', 'void'] };

function backfill(run) {
  if (!run) return fact('none', 'never run', 'Backfill', 'has not run');
  const [level, word] = RUNS[run.state] ?? ['none', run.state];
  const keys = Object.entries(run.keys).filter(([, n]) => n).map(([outcome, n]) => `${count(n)} ${outcome.replaceAll('_', ' ')}`);
  const pace = run.state === 'running' ? [`${count(run.keys_per_s)} keys/s`, run.left_s !== null && `${length(run.left_s * 1000)} left`, run.held_by && `held back by ${run.held_by.why ?? run.held_by.what}`].filter(Boolean) : [];
  const stays = run.not_moved ? `${plural(run.not_moved, 'key stays', 'keys stay')} behind` : null;
  const when = el('span', {}, run.state === 'running' ? 'running, begun ' : `${run.state} `, time(run.state === 'running' ? run.begun_unix_ms : run.changed_unix_ms), pace.length ? `, ${pace.join(', ')}` : '');
  return bar(run.not_moved && level === 'ok' ? 'warn' : level, word, 'Backfill', run.share, when, run.why, keys.join(', '), stays);
}

function verify(brief) {
  const facts = [];
  const { running, last } = brief ?? {};
  if (running) {
    const left = running.left_ms === null ? null : `about ${length(running.left_ms)} left`;
    facts.push(bar('none', 'under way', 'Verify', running.of ? Math.min(running.walked / running.of, 0.999) : 0, `${count(running.compared)} keys compared, ${count(running.keys_per_s)} keys/s`, left, running.held_back_by && `held back by ${running.held_back_by}`));
  }
  if (last) facts.push(fact(last.arrived ? 'ok' : 'warn', last.arrived ? 'well' : 'look at it', running ? 'before that' : 'Verify', last.summary, time(last.ended_unix_ms)));
  return facts.length ? facts : [fact('none', 'never run', 'Verify', 'has not run')];
}

function copies(stash) {
  draw(byId('copies'), [stash.backfill, stash.verify, Math.floor((stash.without_fallback_ms ?? 0) / 10000), stash.phase, stash.traffic.hour.fallbacks], () => {
    const facts = [backfill(stash.backfill), ...verify(stash.verify)];
    if (stash.phase === 'kask-first') {
      const quiet = stash.traffic.hour.fallbacks === 0;
      const how = stash.without_fallback_ms < 1000 ? 'one just now' : `for ${length(Math.floor(stash.without_fallback_ms / 1000) * 1000)}`;
      facts.push(fact(quiet ? 'ok' : 'none', 'for information', 'Without a fallback', how, 'reads that Kask missed and Redis answered'));
    }
    return facts;
  });
}

/** Decants say every few seconds that they are there: who has not for so long may be gone. */
const SILENT_MS = 15000;

/** Of a fleet that shares its record: each says itself how it stands. */
function ofFleet(fleet) {
  const levels = { follows: ['ok', 'well'], behind: ['bad', 'behind'] };
  const list = fleet.members.map((one) => {
    const [level, word] = levels[one.standing] ?? ['bad', 'silent'];
    const away = [...one.shards_away.map((shard) => `Redis ${shard}`), ...(one.kask_away ? ['Kask'] : [])];
    const at = one.said_unix_ms ?? one.silent_since_unix_ms;
    return fact(
      level === 'ok' && away.length ? 'warn' : level,
      word,
      one.name,
      `${one.standing}${one.here ? ', this one' : ''}`,
      `at version ${one.version} of the phase${one.phase ? `, ${one.phase}` : ''}; decant ${one.decant}`,
      at && el('span', {}, one.said_unix_ms ? 'said so ' : 'silent since ', time(at)),
      away.length && `cannot reach ${away.join(', ')}`,
      one.written_alone,
    );
  });
  return fleet.trouble ? [fact('bad', 'cut off', 'etcd', 'not reached', `what follows is what was last known: ${fleet.trouble}`), ...list] : list;
}

function members(status, stash) {
  if (stash.fleet?.store === 'etcd') {
    draw(byId('members'), stash.fleet, () => ofFleet(stash.fleet));
    return;
  }
  const others = (stash.neighbours ?? []).map((other) => ({
    name: other.member,
    build: other.decant,
    behind: stash.version !== undefined && other.version !== stash.version ? other.version : null,
    silent: other.heard_ms_ago >= SILENT_MS ? `heard of ${length(other.heard_ms_ago)} ago` : null,
  }));
  const list = [{ name: status.member, build: status.version, own: true }, ...others];
  draw(byId('members'), [list, stash.member], () =>
    list.map((one) => {
      const moves = one.name === stash.member ? 'it may move' : null;
      const level = one.behind !== null && one.behind !== undefined ? 'bad' : one.silent ? 'warn' : 'ok';
      const word = { bad: 'behind', warn: 'silent', ok: 'well' }[level];
      const told = one.own ? 'this one' : (one.silent ?? 'there');
      return fact(level, word, one.name, told, `version ${one.build}`, level === 'bad' && `it is at version ${one.behind} of the phase, not ${stash.version}`, moves);
    }),
  );
}

/** Draws a stash. True if what needs attention has changed. */
export function show(status, stash) {
  phases(stash);
  record(stash);
  tiers(stash);
  between(stash);
  copies(stash);
  members(status, stash);
  return attention(stash);
}

/** How many entries are shown before somebody asks for all. */
const SHOWN = 12;

function moved(move) {
  const overridden = (move.guards ?? []).filter((guard) => !guard.ok);
  const forced = move.forced ? [' ', el('span', { class: 'tag warn' }, 'forced')] : [];
  const over = overridden.length ? [el('span', { class: 'more' }, ...spelled(`overridden: ${overridden.map((guard) => `${guard.name} (${guard.figure})`).join('; ')}`))] : [];
  const back = move.from === move.phase ? 'no key ahead any more' : '';
  const keys = move.ahead ? `${move.ahead.text} in ${move.ahead.phase}` : back;
  const some = keys ? [' ', el('span', { class: 'tag' }, keys)] : [];
  return el('li', {}, el('span', { class: 'phase-name' }, move.phase), ...some, ...forced, ' ', time(move.since_unix_ms), el('span', { class: 'more' }, `${move.by}: `, el('q', {}, move.reason)), ...over);
}

/** What became of the decant that an event is about. */
const EVENTS = { 'taken-over': 'was silent, and its move was taken over', forgotten: 'was forgotten', restored: 'has restored the record' };

function happened(event) {
  return el('li', {}, el('span', { class: 'phase-name' }, event.member), ` ${EVENTS[event.what] ?? event.what} `, time(event.at_unix_ms), el('span', { class: 'more' }, `${event.by}: `, el('q', {}, event.reason)));
}

/** Moves, and what happened beside them, the newest first: each event after the move of its version. `fault`: why it can't be read now. */
export function history(past, fault, all) {
  const moves = (past?.history ?? []).map((move) => ({ of: move, version: move.version, at: 0, line: moved }));
  const events = (past?.events ?? []).map((event) => ({ of: event, version: event.version, at: event.at_unix_ms, line: happened }));
  const newest = [...moves, ...events].toSorted((a, b) => b.version - a.version || b.at - a.at);
  const shown = all ? newest : newest.slice(0, SHOWN);
  draw(byId('history'), shown.map(({ of }) => of), () => shown.map(({ of, line }) => line(of)));
  const button = byId('history-all');
  button.hidden = all || newest.length <= SHOWN;
  say(button, `All ${newest.length} entries`);
  const note = byId('history-note');
  note.hidden = !fault;
  say(note, fault ? `The history cannot be read now${past ? ', and may be longer than this' : ''}: ${fault}` : '');
}
