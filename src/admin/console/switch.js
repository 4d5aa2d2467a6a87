// The switch: where to, what stands in the way, and the order. Nothing is sent that the person has not just read.

import { byId, draw, el, mark, say, spelled } from './dom.js';
import { goal, words } from './goal.js';
import { PHASES, effect, position } from './phases.js';
import { length } from './text.js';
import * as api from './api.js';

/** Guards are measured again after this long; decant itself measures them no more often than it likes. */
const GUARDS_EVERY_MS = 15000;
/** Somebody who types has come to an end after this long. */
const TYPED_MS = 500;
const NAME = 'decant.by';

/** How some keys are told from the others. */
const RULES = {
  match: ['Pattern', 'As in Redis’s SCAN: * any run, ? one byte, [a-z] one of these. The others stay where they are.'],
  share: ['Keys in a hundred', 'Such as 1 or 0.5, by the key’s hash. Later it can be a larger share, and no smaller one.'],
};

export class Switch {
  /** `moved` is called once a move has begun, with what it is called and the version of the record that it made; with null once it may have. */
  constructor(moved) {
    this.moved = moved;
    this.stash = null;
    this.target = null;
    this.keys = 'all';
    this.rules = { match: '', share: '' };
    this.typing = null;
    this.next = null;
    this.asked = 0;
    this.busy = false;
    byId('by').value = sessionStorage.getItem(NAME) ?? '';
    byId('switch').addEventListener('submit', (event) => {
      event.preventDefault();
      this.order(false);
    });
    byId('force-move').addEventListener('click', () => this.order(true));
    // Enter in a field submits the form, which is the plain move: not what somebody who has just typed this name wants.
    byId('force-name').addEventListener('keydown', (event) => {
      if (event.key !== 'Enter') return;
      event.preventDefault();
      this.order(true);
    });
    byId('check-again').addEventListener('click', () => this.measure(true));
    byId('targets').addEventListener('change', (event) => this.aim(event.target.value));
    byId('scope').addEventListener('change', (event) => this.pick(event.target.value));
    byId('rule').addEventListener('input', (event) => this.type(event.target.value));
    // The guards of these keys are to be read before anything is sent.
    byId('rule').addEventListener('keydown', (event) => {
      if (event.key !== 'Enter') return;
      event.preventDefault();
      this.again();
    });
  }

  /** What the last poll said; `troubled`: what needs attention has changed, and with it perhaps a guard. */
  show(stash, troubled) {
    const before = this.stash;
    this.stash = stash;
    if (!before || before.name !== stash.name || before.phase !== stash.phase || before.version !== stash.version) {
      if (before && before.name !== stash.name) {
        this.say('');
        this.choice('all');
      }
      this.draw();
    }
    if (before && (troubled || before.state !== stash.state)) this.measure(true);
    this.measure(false);
  }

  draw() {
    const at = position(this.stash.phase);
    const { ahead } = this.stash;
    const [back, forward] = [PHASES[at - 1], PHASES[at + 1]].map((phase) => phase?.name);
    const ways = ahead ? [[forward, 'forward'], [this.stash.phase, 'back, for those ahead']] : [[forward, 'forward'], [back, 'back']];
    const choices = at < 0 ? [] : ways.filter(([name]) => name);
    const kept = choices.some(([name]) => name === this.target) ? this.target : (choices[0]?.[0] ?? null);
    draw(byId('targets'), [this.stash.name, choices, kept], () => [
      el('legend', {}, 'Move to'),
      ...choices.map(([name, way]) => el('label', { class: 'target' }, el('input', { type: 'radio', name: 'target', value: name, checked: name === kept }), el('span', {}, name, ' ', el('span', { class: 'quiet' }, way)))),
    ]);
    this.target = kept;
    this.again();
  }

  aim(target) {
    this.target = target;
    this.again();
  }

  pick(keys) {
    this.choice(keys);
    this.again();
  }

  choice(keys) {
    this.keys = keys;
    for (const one of document.getElementsByName('scope')) one.checked = one.value === keys;
    if (!RULES[keys]) return;
    say(byId('rule-label'), RULES[keys][0]);
    say(byId('rule-note'), RULES[keys][1]);
    byId('rule').inputMode = keys === 'share' ? 'decimal' : 'text';
    byId('rule').value = this.rules[keys];
  }

  type(rule) {
    this.rules[this.keys] = rule;
    this.renew();
    clearTimeout(this.typing);
    this.typing = setTimeout(() => this.measure(true), TYPED_MS);
  }

  /** None: there is nowhere to move to. */
  goal() {
    return this.target && goal(this.stash, this.target, this.keys, this.rules[this.keys] ?? '');
  }

  /** Something else is wanted: what was measured was for what was wanted before. */
  renew() {
    const wanted = this.goal();
    byId('force').open = false;
    this.next = null;
    byId('scope').hidden = !wanted?.forward;
    byId('rule-line').hidden = !wanted?.forward || this.keys === 'all';
    say(byId('move'), wanted ? words(wanted).order : 'Move');
    const some = wanted?.whom ? `for ${wanted.whom}, ` : '';
    say(byId('target-note'), wanted ? `${wanted.forward ? 'Forward' : 'Back'}: ${some}${effect(wanted.forward, wanted.target)}` : '');
    byId('emptied-line').hidden = !(wanted?.target === 'dual-write' && wanted.forward && this.stash.kask_stale_since);
    this.clear();
    this.guards();
  }

  again() {
    this.renew();
    this.measure(true);
  }

  async measure(now) {
    const wanted = this.goal();
    if (!wanted || wanted.lacks || this.busy || (!now && Date.now() - this.asked < GUARDS_EVERY_MS)) return;
    this.asked = Date.now();
    const { stash } = this;
    let next;
    try {
      next = await api.get(`${api.of(stash.name, '/phase/next')}?${wanted.query}`);
    } catch (fault) {
      next = { guards: [], refused: fault.message, measured_ms_ago: 0 };
    }
    // Somebody may have chosen another meanwhile.
    if (JSON.stringify(this.goal()) !== JSON.stringify(wanted) || this.stash.name !== stash.name) return;
    this.next = { ...next, at: Date.now() - next.measured_ms_ago };
    this.guards();
  }

  failing() {
    return (this.next?.guards ?? []).filter((guard) => !guard.ok);
  }

  guards() {
    const { next } = this;
    const failing = this.failing();
    const wanted = this.goal();
    const none = wanted ? (wanted.lacks ?? 'They are being measured …') : 'There is nowhere to move to.';
    draw(byId('guards'), [next?.guards, next?.refused, next ? null : none], () => {
      if (!next) return [el('li', { class: 'quiet' }, none)];
      const refused = next.refused ? [el('li', {}, mark('bad', 'refused'), el('span', {}, ...spelled(next.refused)))] : [];
      return [...refused, ...next.guards.map(guard)];
    });
    this.tell();
    const force = byId('force');
    force.hidden = failing.length === 0;
    if (!failing.length) return;
    say(byId('force-what'), `These guards fail, and what they warn of can happen. The move would be marked as forced in the history for good:`);
    draw(byId('force-guards'), failing, () => failing.map((one) => el('li', {}, el('b', {}, one.name), ': ', ...spelled(one.figure), el('span', { class: 'more' }, ...spelled(one.needs)))));
    say(byId('force-label'), `Type ${this.target} to confirm`);
  }

  /** How old the figures are, and how many fail. */
  tell() {
    const { next } = this;
    const failing = this.failing().length;
    const verdict = !next || next.refused ? '' : failing ? `${failing} of ${next.guards.length} fail, ` : `all ${next.guards.length} pass, `;
    say(byId('measured'), next ? `${verdict}measured ${length(Math.max(1000, Date.now() - next.at))} ago` : '');
  }

  clear() {
    for (const id of ['rule', 'reason', 'by', 'force-name']) this.fault(id, '');
    byId('force-name').value = '';
  }

  fault(id, text) {
    const field = byId(id);
    say(byId(`${id === 'force-name' ? 'force' : id}-error`), text);
    if (text) field.setAttribute('aria-invalid', 'true');
    else field.removeAttribute('aria-invalid');
  }

  say(text, level = '') {
    const outcome = byId('outcome');
    outcome.className = `outcome ${level}`;
    say(outcome, text);
  }

  /** True if the order can be sent; else the first field that lacks something has the focus. */
  complete(force) {
    const lacks = [
      ['rule', this.goal().lacks ?? ''],
      ['reason', byId('reason').value.trim() ? '' : 'Say why: it is what the next person reads.'],
      ['by', byId('by').value.trim() ? '' : 'Say who you are.'],
    ];
    if (force) lacks.push(['force-name', byId('force-name').value.trim() === this.target ? '' : `Type ${this.target}, to the letter: a forced move can lose data.`]);
    lacks.forEach(([id, text]) => this.fault(id, text));
    const first = lacks.find(([, text]) => text);
    if (first) byId(first[0]).focus();
    return !first;
  }

  async order(force) {
    if (!this.target || this.busy || !this.complete(force)) return;
    const { stash } = this;
    const wanted = this.goal();
    const { told } = words(wanted);
    const by = byId('by').value.trim();
    sessionStorage.setItem(NAME, by);
    this.lock(true);
    this.say(`${told}: the guards are measured once more.`);
    try {
      const { record } = await api.send(wanted.method, api.of(stash.name, wanted.page), {
        ...wanted.body,
        from: stash.phase,
        reason: byId('reason').value.trim(),
        by,
        force,
        kask_emptied: !byId('emptied-line').hidden && byId('emptied').checked,
      });
      this.say(`${told} has begun.`, 'ok');
      byId('reason').value = '';
      this.clear();
      byId('force').open = false;
      // The next move is another matter.
      this.choice('all');
      this.moved({ told, stash: stash.name, version: record.version });
    } catch (fault) {
      if (fault instanceof api.Refusal && fault.undone) this.refused(fault);
      else this.doubtful(fault);
    } finally {
      this.lock(false);
    }
  }

  refused(fault) {
    const guards = fault.problem?.guards;
    if (guards) {
      this.next = { guards, refused: null, at: Date.now() };
      this.guards();
    }
    const why = guards ? `${guards.filter((one) => !one.ok).map((one) => one.name).join(', ')}: see above.` : fault.message;
    this.say(`Refused, nothing was done. ${why}`, 'bad');
  }

  /** No answer, or none of decant's: what it did is shown by what it tells next. */
  doubtful(fault) {
    this.say(`It is not known whether the move has begun: look at the phase above. ${fault.message}`, 'bad');
    this.moved(null);
  }

  lock(busy) {
    this.busy = busy;
    byId('order').disabled = busy;
    byId('targets').disabled = busy;
    byId('scope').disabled = busy;
    byId('rule').disabled = busy;
  }
}

function guard(one) {
  const verdict = one.ok ? 'ok' : 'fails';
  return el(
    'li',
    { class: one.ok ? 'guard' : 'guard fails', 'data-guard': one.name },
    mark(one.ok ? 'ok' : 'bad', verdict),
    el('span', { class: 'name' }, one.name, el('span', { class: 'verdict', 'aria-hidden': 'true' }, verdict)),
    el('span', { class: 'value' }, ...spelled(one.figure), one.ok ? null : el('span', { class: 'more' }, 'Needs: ', ...spelled(one.needs))),
  );
}
