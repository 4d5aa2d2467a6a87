// Reads a second over the last hour, stacked by the tier that answered. Told apart by place, pattern and name as well as by colour.

import { el, svg } from './dom.js';
import { count, percent, rate } from './text.js';

const MINUTE = 60000;
/** How much is shown, and a tick every so often, in minutes: a decant that has just started does not fill an hour. */
const SPANS = [[5, 1], [10, 2], [15, 5], [30, 10], [60, 15]];
const HEIGHT = 190;
const MARGIN = { top: 8, right: 8, bottom: 34, left: 44 };
/** From the bottom up. */
const KINDS = [
  { id: 'kask', name: 'Kask' },
  { id: 'redis', name: 'Redis' },
  { id: 'none', name: 'neither' },
];

/** The least of 1, 2, 5, 10, 20, … that is no less than `value`. */
function niceAbove(value) {
  if (value <= 0) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 5, 10].map((step) => step * power).find((step) => step >= value * 0.9999);
}

function patterns() {
  const of = (id, ...marks) =>
    svg('pattern', { id: `fill-${id}`, width: 6, height: 6, patternUnits: 'userSpaceOnUse' }, svg('rect', { width: 6, height: 6, class: `fill ${id}` }), ...marks);
  return svg(
    'defs',
    {},
    of('kask'),
    of('redis', svg('path', { d: 'M0 6L6 0M-1 1L1 -1M5 7L7 5', class: 'stroke redis' })),
    of('none', svg('circle', { cx: 3, cy: 3, r: 1.1, class: 'dot none' })),
  );
}

/** A slot as it lies on the page: where it begins and ends, and the rates of each kind. */
function laid(slot) {
  const end = -slot.ended_ms_ago;
  return { begin: end - slot.over_ms, end, rates: KINDS.map((kind) => (slot.over_ms ? (slot[kind.id] * 1000) / slot.over_ms : 0)), errors: slot.kask_errors };
}

function area(slots, kind, x, y) {
  const below = (rates) => rates.slice(0, kind).reduce((a, b) => a + b, 0);
  const top = slots.map((s) => `L${x(s.begin)} ${y(below(s.rates) + s.rates[kind])}L${x(s.end)} ${y(below(s.rates) + s.rates[kind])}`);
  const back = slots.toReversed().map((s) => `L${x(s.end)} ${y(below(s.rates))}L${x(s.begin)} ${y(below(s.rates))}`);
  return `M${x(slots[0].begin)} ${y(below(slots[0].rates))}${top.join('')}${back.join('')}Z`;
}

/** In one sentence, for those who do not see the picture. */
export function summary(traffic) {
  const { minute, hour } = traffic;
  const told = (window) => KINDS.map((kind) => `${kind.name} ${rate(window[kind.id], window.over_ms)}`).join(', ');
  return `Reads a second by the tier that answered. Last hour: ${told(hour)}. Last minute: ${told(minute)}.`;
}

export function chart(traffic, width) {
  // What has just begun says little: a slot of half a second would be a spike.
  const slots = traffic.slots.filter((slot) => slot.over_ms >= 2000 || traffic.slots.length === 1).map(laid);
  const most = Math.max(0, ...slots.map((slot) => slot.rates.reduce((a, b) => a + b, 0)));
  const top = niceAbove(most);
  const covered = -Math.min(0, ...slots.map((slot) => slot.begin)) / MINUTE;
  const [span, every] = SPANS.find(([minutes]) => minutes >= covered) ?? SPANS.at(-1);
  const tick = width < 480 ? every * 2 : every;
  const right = width - MARGIN.right;
  const floor = HEIGHT - MARGIN.bottom;
  const fixed = (n) => Math.round(n * 10) / 10;
  const x = (at) => fixed(Math.max(MARGIN.left, right + (at / (span * MINUTE)) * (right - MARGIN.left)));
  const y = (value) => fixed(floor - (value / top) * (floor - MARGIN.top));
  const root = svg('svg', { viewBox: `0 0 ${width} ${HEIGHT}`, width, height: HEIGHT, role: 'img', 'aria-label': summary(traffic) }, patterns());
  for (const value of [0, top / 2, top]) {
    root.append(svg('path', { d: `M${MARGIN.left} ${y(value)}H${right}`, class: 'grid' }));
    root.append(svg('text', { x: MARGIN.left - 6, y: y(value) + 4, 'text-anchor': 'end' }, value.toLocaleString('en-US')));
  }
  for (let minutes = 0; minutes <= span; minutes += tick) {
    const anchor = minutes === 0 ? 'end' : minutes === span ? 'start' : 'middle';
    root.append(svg('text', { x: x(-minutes * MINUTE), y: HEIGHT - 4, 'text-anchor': anchor }, minutes ? `−${minutes} min` : 'now'));
  }
  if (slots.length) {
    KINDS.forEach((kind, at) => root.append(svg('path', { d: area(slots, at, x, y), fill: `url(#fill-${kind.id})`, class: `area ${kind.id}` })));
    // Where Kask failed: marks on the axis.
    for (const slot of slots.filter((one) => one.errors)) {
      root.append(svg('path', { d: `M${fixed((x(slot.begin) + x(slot.end)) / 2 - 3)} ${floor + 12}l3 -8l3 8z`, class: 'fault' }, svg('title', {}, `${count(slot.errors)} errors of Kask`)));
    }
  }
  return root;
}

export function legend(traffic) {
  const { minute } = traffic;
  const all = KINDS.reduce((sum, kind) => sum + minute[kind.id], 0);
  const key = (kind) => svg('svg', { width: 14, height: 14, 'aria-hidden': 'true' }, svg('rect', { width: 14, height: 14, rx: 2, fill: `url(#fill-${kind.id})` }));
  const items = KINDS.map((kind) => el('li', {}, key(kind), `${kind.name} ${rate(minute[kind.id], minute.over_ms)}`, el('span', { class: 'more' }, percent(minute[kind.id], all))));
  const failed = svg('svg', { width: 14, height: 14, 'aria-hidden': 'true' }, svg('path', { d: 'M3 12l4 -10l4 10z', class: 'fault' }));
  items.push(el('li', {}, failed, `errors of Kask ${rate(minute.kask_errors, minute.over_ms)}`, el('span', { class: 'more' }, percent(minute.kask_errors, minute.kask_requests))));
  return el('figcaption', {}, el('ul', { class: 'legend', 'aria-label': 'Last minute' }, ...items));
}

function table(caption, head, rows) {
  const cells = (row) => row.map((cell, at) => el(at ? 'td' : 'th', at ? {} : { scope: 'row' }, cell));
  return el('table', {}, el('caption', { class: 'visually-hidden' }, caption), el('thead', {}, el('tr', {}, ...head.map((name) => el('th', { scope: 'col' }, name)))), el('tbody', {}, ...rows.map((row) => el('tr', {}, ...cells(row)))));
}

/** The hour in twelve rows. */
export function hourTable(traffic) {
  const rows = [];
  for (let at = 0; at < 12; at += 1) {
    const within = traffic.slots.filter((slot) => Math.min(11, Math.floor(slot.ended_ms_ago / 300000)) === at);
    if (!within.length) continue;
    const sum = (name) => count(within.reduce((total, slot) => total + slot[name], 0));
    rows.push([at ? `${at * 5} to ${at * 5 + 5} min ago` : 'last 5 min', sum('kask'), sum('redis'), sum('none'), sum('kask_errors')]);
  }
  return table('Reads in five minutes each', ['When', 'Kask', 'Redis', 'neither', 'errors of Kask'], rows);
}

/** Last minute, hour and day side by side. */
export function windowsTable(windows, length) {
  const spans = [['last minute', windows.minute, 60000], ['last hour', windows.hour, 3600000], ['last day', windows.day, 86400000]];
  const head = ['', ...spans.map(([name, window, whole]) => (window.over_ms < whole ? el('span', {}, name, el('span', { class: 'more' }, `${length(window.over_ms)} so far`)) : name))];
  const share = (window, part, whole) => [count(part), el('span', { class: 'more' }, percent(part, whole))];
  const cell = (parts) => el('span', {}, ...parts);
  const reads = (window) => window.kask + window.redis + window.none;
  const row = (name, of) => [name, ...spans.map(([, window]) => cell(of(window)))];
  return table('Reads', head, [
    row('Kask', (w) => share(w, w.kask, reads(w))),
    row('Redis', (w) => share(w, w.redis, reads(w))),
    row('… which Kask lacked', (w) => share(w, w.fallbacks, reads(w))),
    row('neither', (w) => share(w, w.none, reads(w))),
    row('errors of Kask', (w) => share(w, w.kask_errors, w.kask_requests)),
    row('Kask differed', (w) => share(w, w.differing, w.compared)),
  ]);
}
