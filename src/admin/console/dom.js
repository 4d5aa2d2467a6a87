// Nodes without markup: text is only ever set as text, so what somebody wrote into a reason stays a reason.

export const byId = (id) => document.getElementById(id);

/** `el('li', { class: 'bad' }, 'text', node)`. */
export function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (value === true) node.setAttribute(key, '');
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(key, String(value));
  }
  node.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

const SVG = 'http://www.w3.org/2000/svg';

export function svg(name, attributes = {}, ...children) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, String(value));
  node.append(...children);
  return node;
}

/** Sets a text only where it differs: screen readers and selections are left in peace. */
export function say(node, text) {
  if (node.textContent !== text) node.textContent = text;
}

const drawn = new WeakMap();

/** Builds a node's children anew only where what they are made of has changed. True if it did. */
export function draw(node, from, build) {
  const key = JSON.stringify(from);
  if (drawn.get(node) === key) return false;
  drawn.set(node, key);
  node.replaceChildren(...build());
  return true;
}

/** A text of decant's as nodes: what it sets between backticks is something to type. */
export function spelled(text) {
  const parts = text.split('`');
  // One without its partner is only a backtick.
  const whole = parts.length % 2 === 1 ? parts : [...parts.slice(0, -2), parts.slice(-2).join('`')];
  return whole.map((part, at) => (at % 2 ? el('code', {}, part) : part));
}

/** A time that goes on telling how long ago it was; `refreshTimes` keeps it so. */
export function time(unixMs) {
  const at = new Date(unixMs);
  const known = Number.isFinite(at.getTime());
  return el('time', known ? { datetime: at.toISOString(), title: at.toISOString(), 'data-ago': unixMs } : {}, '');
}

export function refreshTimes(ago, now) {
  for (const node of document.querySelectorAll('time[data-ago]')) say(node, ago(Number(node.dataset.ago), now));
}

/** A mark that can be told without its colour: ✓ ok, ! warn, ✗ bad. The word is for those who hear the page. */
export function mark(level, word) {
  const sign = { ok: '✓', warn: '!', bad: '✗', none: '–' }[level];
  return el('span', { class: `mark ${level}` }, el('span', { 'aria-hidden': 'true' }, sign), el('span', { class: 'visually-hidden' }, `${word}: `));
}

/** A row of facts: what, how it is, and more in a quieter voice. */
export function fact(level, word, name, value, ...more) {
  return el('li', {}, mark(level, word), el('span', { class: 'name' }, name), el('span', { class: 'value' }, value, ...more.filter(Boolean).map((text) => el('span', { class: 'more' }, text))));
}
