// The phases, and what a step between them does.

/** In the order of the migration, with what each reads and writes. */
export const PHASES = [
  { name: 'redis-only', reads: 'Redis', writes: 'Redis' },
  { name: 'dual-write', reads: 'Redis', writes: 'Redis, then Kask' },
  { name: 'kask-first', reads: 'Kask, then Redis', writes: 'Redis, then Kask' },
  { name: 'redis-standby', reads: 'Kask', writes: 'Kask, then Redis' },
  { name: 'kask-only', reads: 'Kask', writes: 'Kask' },
];

export const position = (phase) => PHASES.findIndex((known) => known.name === phase);

/** What a step does to the keys that take it, going there. */
const forward = {
  'dual-write': 'every write goes to Kask as well. Reads stay with Redis.',
  'kask-first': 'reads ask Kask first, and Redis for what Kask lacks.',
  'redis-standby': 'Kask decides. What only Redis has is not read any more.',
  'kask-only': 'Redis is let go of. There is no way back but by force.',
};

const back = {
  'redis-only': 'Kask gets no more writes, and is stale from then on.',
  'dual-write': 'reads are Redis’s again.',
  'kask-first': 'Redis decides again; it must have every write.',
  'redis-standby': 'Redis is connected again, and lacks every write made since.',
};

export const effect = (isForward, target) => (isForward ? forward : back)[target] ?? '';
