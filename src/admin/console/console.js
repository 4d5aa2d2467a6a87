// The page: asks decant every two seconds while somebody looks, and draws what it says.

import { byId, draw, el, refreshTimes, say } from './dom.js';
import { ago, length } from './text.js';
import { chart, hourTable, legend, windowsTable } from './chart.js';
import { history, show } from './stash.js';
import { Switch } from './switch.js';
import * as api from './api.js';

const EVERY_MS = 2000;
/** A poll that takes longer has failed. */
const POLL_PATIENCE_MS = 8000;
/** The chart's slots are this long. */
const CHART_EVERY_MS = 10000;
/** While a move is under way it is looked at this often. */
const MOVING_EVERY_MS = 300;

const state = { status: null, heard: 0, traffic: null, trafficAt: 0, trafficOf: null, past: null, pastOf: '', pastFault: '', allPast: false, awaited: null };
const lever = new Switch((move) => {
  state.awaited = move;
  poll();
});

/** The stash that the address names, or else the first. */
function chosen() {
  const named = decodeURIComponent(location.hash.slice(1));
  return state.status.stashes.find((stash) => stash.name === named) ?? state.status.stashes[0];
}

function header() {
  const { status } = state;
  say(byId('self'), `${status.member} · version ${status.version} · up ${length(status.uptime_s * 1000)} · ${status.ready ? 'ready' : 'not ready'}`);
  const names = status.stashes.map((stash) => stash.name);
  const current = chosen()?.name;
  document.title = `${current ?? 'no stash'}: ${chosen()?.phase ?? 'not confirmed'} · decant`;
  draw(byId('stashes'), [names, current], () => names.map((name) => el('a', { href: `#${encodeURIComponent(name)}`, 'aria-current': name === current ? 'true' : null }, name)));
}

function drawTraffic() {
  const { traffic } = state;
  if (!traffic) return;
  const figure = byId('chart');
  const width = Math.max(280, Math.floor(figure.clientWidth));
  // The figures of the last minute are part of the picture, so it is new whenever they are.
  draw(figure, [traffic, width], () => [chart(traffic, width), legend(traffic)]);
  draw(byId('windows'), [traffic.minute, traffic.hour, traffic.day], () => [windowsTable(traffic, length)]);
  draw(byId('chart-table').querySelector('div'), traffic.slots, () => [hourTable(traffic)]);
}

async function details(stash) {
  const now = Date.now();
  if (state.trafficOf !== stash.name || now - state.trafficAt >= CHART_EVERY_MS) {
    state.traffic = await api.get(api.of(stash.name, '/traffic'), POLL_PATIENCE_MS);
    [state.trafficOf, state.trafficAt] = [stash.name, now];
  }
}

/** Fetched after the rest is drawn: where it is kept may be away though decant serves. What was read before stays. */
async function past(stash) {
  // A member that was forgotten is told of in it, too.
  const of = JSON.stringify([stash.name, stash.version, stash.state, stash.fleet?.members.map((member) => member.name)]);
  if (!stash.phase || state.pastOf === of) return;
  try {
    state.past = await api.get(api.of(stash.name, '/phase/history'), POLL_PATIENCE_MS);
    [state.pastOf, state.pastFault] = [of, ''];
  } catch (fault) {
    if (fault instanceof api.Refusal && fault.status === 401) throw fault;
    state.pastFault = fault.message;
  }
  drawPast();
}

function drawPast() {
  // Of another stash than is looked at it says nothing.
  if (state.past && state.past.stash !== chosen()?.name) [state.past, state.pastOf, state.pastFault] = [null, '', ''];
  history(state.past, state.pastFault, state.allPast);
  refreshTimes(ago, Date.now());
}

function announce(stash, troubled) {
  // Who looks at another stash by now waits for nothing here.
  if (state.awaited && state.awaited.stash !== stash.name) state.awaited = null;
  const { awaited } = state;
  // Where somebody has moved on meanwhile this one has settled before.
  if (awaited && (stash.version > awaited.version || (stash.version === awaited.version && stash.state === 'settled'))) {
    lever.say(`${awaited.told} has settled.`, 'ok');
    state.awaited = null;
  }
  // The first picture is read as any page is; later only what changed is said.
  if (troubled && state.heard) say(byId('said'), stash.attention.length ? `What needs you: ${stash.attention.map((one) => one.what).join('; ')}` : 'Nothing needs you any more.');
}

function render() {
  const stash = chosen();
  header();
  byId('stash').hidden = !stash;
  if (!stash) return;
  const troubled = show(state.status, stash);
  announce(stash, troubled);
  lever.show(stash, troubled);
  drawTraffic();
  drawPast();
}

function link(level, text) {
  const node = byId('link');
  node.className = `link ${level}`;
  say(node, text);
}

function lost(fault) {
  if (fault instanceof api.Refusal && fault.status === 401) {
    login(api.token.get() ? 'This token is not the one.' : '');
    return;
  }
  const since = state.heard ? `since ${length(Date.now() - state.heard)}` : 'yet';
  link('bad', 'no answer');
  const banner = byId('lost');
  // Said once, not every two seconds.
  if (banner.hidden) say(banner, state.heard ? 'decant does not answer: what is shown here is old.' : `decant has not answered ${since}: ${fault.message}`);
  banner.hidden = false;
}

function found() {
  byId('lost').hidden = true;
  byId('login').hidden = true;
  link('ok', 'live');
}

function login(why) {
  api.token.forget();
  link('warn', 'locked');
  byId('stash').hidden = true;
  byId('lost').hidden = true;
  const section = byId('login');
  say(byId('login-error'), why);
  if (section.hidden) {
    section.hidden = false;
    byId('token').focus();
  }
}

let timer = null;
let polling = false;

async function poll() {
  clearTimeout(timer);
  if (polling || document.hidden) return;
  polling = true;
  try {
    state.status = await api.get('/v1/status', POLL_PATIENCE_MS);
    const stash = chosen();
    if (stash) await details(stash);
    render();
    state.heard = Date.now();
    found();
    if (stash) await past(stash);
  } catch (fault) {
    lost(fault);
  }
  polling = false;
  if (!byId('login').hidden) return;
  timer = setTimeout(poll, state.awaited ? MOVING_EVERY_MS : EVERY_MS);
}

document.addEventListener('visibilitychange', poll);
addEventListener('hashchange', poll);
addEventListener('resize', drawTraffic);
byId('history-all').addEventListener('click', () => {
  state.allPast = true;
  drawPast();
});
byId('login-form').addEventListener('submit', (event) => {
  event.preventDefault();
  const field = byId('token');
  api.token.set(field.value.trim());
  field.value = '';
  byId('login').hidden = true;
  say(byId('login-error'), '');
  poll();
});
setInterval(() => {
  refreshTimes(ago, Date.now());
  lever.tell();
}, 1000);
poll();
