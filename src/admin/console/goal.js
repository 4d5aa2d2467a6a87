// What a move is to bring about: another phase for all keys, or one phase ahead of the others for some. Pure.

import { position } from './phases.js';

/** What becomes of which keys, how its guards are asked for and how it is ordered; `lacks`: what is missing yet before it can be. */
export function goal(stash, target, keys, rule) {
  const forward = position(target) > position(stash.phase);
  // Only keys that are ahead can go to where the stash is.
  if (target === stash.phase) {
    return { target, forward, whom: stash.ahead.text, method: 'DELETE', page: '/phase/ahead', body: {}, query: 'ahead=none' };
  }
  if (!forward || keys === 'all') return { target, forward, whom: '', method: 'PUT', page: '/phase', body: { to: target }, query: `to=${encodeURIComponent(target)}` };
  const some = keys === 'match' ? matching(rule) : share(rule);
  return { target, forward, method: 'PUT', page: '/phase/ahead', ...some };
}

function matching(rule) {
  const pattern = rule.trim();
  if (!pattern) return { whom: '', lacks: 'Say which keys: a pattern such as testwiki:*' };
  return { whom: `keys like ${pattern}`, body: { match: pattern }, query: `match=${encodeURIComponent(pattern)}` };
}

function share(rule) {
  const percent = Number(rule.trim().replace(/\s*%$/, ''));
  if (!rule.trim() || !(percent > 0 && percent < 100)) return { whom: '', lacks: 'Say how many in a hundred: more than 0, less than 100.' };
  return { whom: `${percent} % of all keys`, body: { share: percent / 100 }, query: `share=${percent / 100}` };
}

/** What the button says, and what is told of the move afterwards. */
export function words({ target, forward, whom }) {
  if (!whom) return { order: `Move to ${target}`, told: `The move to ${target}` };
  const way = forward ? 'to' : 'back to';
  return { order: `${forward ? 'Move' : 'Take'} ${whom} ${way} ${target}`, told: `The move of ${whom} ${way} ${target}` };
}
