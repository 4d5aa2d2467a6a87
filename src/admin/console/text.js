// Numbers and times as a person reads them. Pure.

/** `250 ms`, `3.2 s`, `5 min`, `7 h`, `12 d`: as `decant status` writes them. */
export function length(ms) {
  const s = Math.floor(ms / 1000);
  if (s < 1) return `${Math.max(0, Math.round(ms))} ms`;
  if (s < 10) return `${(ms / 1000).toFixed(1)} s`;
  if (s < 120) return `${s} s`;
  if (s < 7200) return `${Math.floor(s / 60)} min`;
  if (s < 172800) return `${Math.floor(s / 3600)} h`;
  return `${Math.floor(s / 86400)} d`;
}

/** What lies less than a second back is said as such: a page that counts milliseconds only flickers. */
export function ago(unixMs, now) {
  const ms = now - unixMs;
  return ms < 1000 ? 'just now' : `${length(Math.floor(ms / 1000) * 1000)} ago`;
}

export function count(n) {
  return Math.round(n).toLocaleString('en-US');
}

export function plural(n, one, many = `${one}s`) {
  return `${count(n)} ${n === 1 ? one : many}`;
}

/** `0 %`, `0.02 %`, `12 %`; never `0 %` for what is not nothing, nor `100 %` for what is not all. */
export function percent(part, whole) {
  if (!whole) return '–';
  const share = (part / whole) * 100;
  if (part === 0) return '0 %';
  if (part === whole) return '100 %';
  if (share < 0.01) return '< 0.01 %';
  if (share > 99.99) return '> 99.99 %';
  return `${share < 1 || share > 99 ? share.toFixed(2) : share < 10 || share > 90 ? share.toFixed(1) : share.toFixed(0)} %`;
}

export function rate(n, overMs) {
  if (!overMs) return '0/s';
  const perSecond = (n * 1000) / overMs;
  const digits = perSecond === 0 || perSecond >= 100 ? 0 : perSecond >= 1 ? 1 : 2;
  return `${perSecond.toLocaleString('en-US', { maximumFractionDigits: digits })}/s`;
}
