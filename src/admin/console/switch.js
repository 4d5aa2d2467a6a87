// The switch: where to, what stands in the way, and the order. Nothing is sent that the person has not just read.

import { byId, draw, el, mark, say } from './dom.js';
import { PHASES, position } from './stash.js';
import { length } from './text.js';
import * as api from './api.js';

/** Guards are measured again after this long; decant itself measures them no more often than it likes. */
const GUARDS_EVERY_MS = 15000;
const NAME = 'decant.by';

export class Switch {
  /** `moved` is called once a move has begun. */
  constructor(moved) {
    this.moved = moved;
    this.stash = null;
    this.target = null;
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
  }

  /** What the last poll said; `troubled`: what needs attention has changed, and with it perhaps a guard. */
  show(stash, troubled) {
    const before = this.stash;
    this.stash = stash;
    if (!before || before.name !== stash.name || before.phase !== stash.phase || before.version !== stash.version) {
      if (before && before.name !== stash.name) this.say('');
      this.draw();
    }
    if (before && (troubled || before.state !== stash.state)) this.measure(true);
    this.measure(false);
  }

  draw() {
    const at = position(this.stash.phase);
    const [back, forward] = [PHASES[at - 1], PHASES[at + 1]].map((phase) => phase?.name);
    const choices = at < 0 ? [] : [[forward, 'forward'], [back, 'back']].filter(([name]) => name);
    const kept = choices.some(([name]) => name === this.target) ? this.target : (choices[0]?.[0] ?? null);
    draw(byId('targets'), [this.stash.name, choices, kept], () => [
      el('legend', {}, 'Move to'),
      ...choices.map(([name, way]) => el('label', { class: 'target' }, el('input', { type: 'radio', name: 'target', value: name, checked: name === kept }), el('span', {}, name, ' ', el('span', { class: 'quiet' }, way)))),
    ]);
    this.aim(kept);
  }

  aim(target) {
    if (target !== this.target) byId('force').open = false;
    this.target = target;
    this.next = null;
    const forward = position(target) > position(this.stash.phase);
    say(byId('move'), target ? `Move to ${target}` : 'Move');
    say(byId('target-note'), !target ? '' : forward ? `Forward: ${notes[target] ?? ''}` : `Back: ${notesBack[target] ?? ''}`);
    byId('emptied-line').hidden = !(target === 'dual-write' && forward && this.stash.kask_stale_since);
    this.clear();
    this.guards();
    this.measure(true);
  }

  async measure(now) {
    if (!this.target || this.busy || (!now && Date.now() - this.asked < GUARDS_EVERY_MS)) return;
    this.asked = Date.now();
    const { target, stash } = this;
    let next;
    try {
      next = await api.get(`${api.of(stash.name, '/phase/next')}?to=${encodeURIComponent(target)}`);
    } catch (fault) {
      next = { guards: [], refused: fault.message, measured_ms_ago: 0 };
    }
    // Somebody may have chosen another meanwhile.
    if (this.target !== target || this.stash.name !== stash.name) return;
    this.next = { ...next, at: Date.now() - next.measured_ms_ago };
    this.guards();
  }

  failing() {
    return (this.next?.guards ?? []).filter((guard) => !guard.ok);
  }

  guards() {
    const { next } = this;
    const failing = this.failing();
    draw(byId('guards'), [next?.guards, next?.refused, next === null], () => {
      if (!next) return [el('li', { class: 'quiet' }, this.target ? 'They are being measured …' : 'There is nowhere to move to.')];
      const refused = next.refused ? [el('li', {}, mark('bad', 'refused'), el('span', {}, next.refused))] : [];
      return [...refused, ...next.guards.map(guard)];
    });
    this.tell();
    const force = byId('force');
    force.hidden = failing.length === 0;
    if (!failing.length) return;
    say(byId('force-what'), `These guards fail, and what they warn of can happen. The move would be marked as forced in the history for good:`);
    draw(byId('force-guards'), failing, () => failing.map((one) => el('li', {}, el('b', {}, one.name), `: ${one.figure}`, el('span', { class: 'more' }, one.needs))));
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
    for (const id of ['reason', 'by', 'force-name']) this.fault(id, '');
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
    const { target, stash } = this;
    const by = byId('by').value.trim();
    sessionStorage.setItem(NAME, by);
    this.lock(true);
    this.say(`Moving from ${stash.phase} to ${target}: the guards are measured once more.`);
    try {
      await api.put(api.of(stash.name, '/phase'), {
        from: stash.phase,
        to: target,
        reason: byId('reason').value.trim(),
        by,
        force,
        kask_emptied: !byId('emptied-line').hidden && byId('emptied').checked,
      });
      this.say(`The move to ${target} has begun.`, 'ok');
      byId('reason').value = '';
      this.clear();
      byId('force').open = false;
      this.moved(target);
    } catch (fault) {
      this.refused(fault);
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

  lock(busy) {
    this.busy = busy;
    byId('order').disabled = busy;
    byId('targets').disabled = busy;
  }
}

function guard(one) {
  const verdict = one.ok ? 'ok' : 'fails';
  return el(
    'li',
    { class: one.ok ? 'guard' : 'guard fails', 'data-guard': one.name },
    mark(one.ok ? 'ok' : 'bad', verdict),
    el('span', { class: 'name' }, one.name, el('span', { class: 'verdict', 'aria-hidden': 'true' }, verdict)),
    el('span', { class: 'value' }, one.figure, one.ok ? null : el('span', { class: 'more' }, `Needs: ${one.needs}`)),
  );
}

/** What a step does, going there. */
const notes = {
  'dual-write': 'every write goes to Kask as well. Reads stay with Redis.',
  'kask-first': 'reads ask Kask first, and Redis for what Kask lacks.',
  'redis-standby': 'Kask decides. What only Redis has is not read any more.',
  'kask-only': 'Redis is let go of. There is no way back but by force.',
};

const notesBack = {
  'redis-only': 'Kask gets no more writes, and is stale from then on.',
  'dual-write': 'reads are Redis’s again.',
  'kask-first': 'Redis decides again; it must have every write.',
  'redis-standby': 'Redis is connected again, and lacks every write made since.',
};
