// decant's admin API. The token, where one is wanted, is kept for this tab alone, and sent to where the page came from alone.

const TOKEN = 'decant.token';
const PATIENCE_MS = 30000;
/** A move is answered after its guards have compared a sample of keys: as long as `decant phase set` waits. */
const SEND_PATIENCE_MS = 60000;

export const token = {
  get: () => sessionStorage.getItem(TOKEN),
  set: (value) => sessionStorage.setItem(TOKEN, value),
  forget: () => sessionStorage.removeItem(TOKEN),
};

/** What is told with 503, and was not done: decant was not ready for it, or etcd refused it or is away. */
const UNDONE = ['busy', 'etcd'];

/** An answer that is no success. `problem` is decant's own word for why, where it had one. */
export class Refusal extends Error {
  constructor(status, problem) {
    super(problem?.detail ?? `decant answered ${status}`);
    this.status = status;
    this.problem = problem ?? {};
  }

  /** What decant itself says it has not done. All else, no answer included, may have been done. */
  get undone() {
    const kind = /^urn:decant:problem:(.+)$/.exec(this.problem.type)?.[1];
    if (!kind) return false;
    return this.status < 500 || (this.status === 503 && UNDONE.includes(kind));
  }
}

async function call(method, path, body, patience = PATIENCE_MS) {
  const headers = { Accept: 'application/json' };
  const held = token.get();
  if (held) headers.Authorization = `Bearer ${held}`;
  if (body) headers['Content-Type'] = 'application/json';
  const answer = await fetch(path, {
    method,
    headers,
    body: body && JSON.stringify(body),
    cache: 'no-store',
    credentials: 'omit',
    redirect: 'error',
    signal: AbortSignal.timeout(patience),
  });
  const document = await answer.json().catch(() => null);
  if (!answer.ok) throw new Refusal(answer.status, document);
  if (document === null) throw new Error('what answered is no decant');
  return document;
}

export const get = (path, patience) => call('GET', path, undefined, patience);
export const send = (method, path, body) => call(method, path, body, SEND_PATIENCE_MS);
export const of = (stash, rest = '') => `/v1/stashes/${encodeURIComponent(stash)}${rest}`;
