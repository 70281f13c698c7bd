// Named points of the program where a test can make it fail: killed, stopped, stuck, or refused by the disk, at one step exactly.
// Invariant: nothing happens unless CROSSTOWER_TEST=1 is set beside CROSSTOWER_FAILPOINTS, which says `NAME=ACTION[@STEP],...`. The tests
// run the same files that users run, so that the points are in them; an unarmed one costs a comparison (docs/adr/0016-recovery.md).

import { UsageError } from './errors.ts';

const actions: Readonly<Record<string, (name: string) => void>> = {
  kill: () => process.kill(process.pid, 'SIGKILL'),
  stop: () => process.kill(process.pid, 'SIGSTOP'),
  spin: () => {
    for (;;);
  },
  throw: (name) => {
    throw new Error(`failpoint ${name}`);
  },
  // What TensorFlow says when the device has no memory left.
  oom: (name) => {
    throw new Error(`OOM when allocating tensor at failpoint ${name}`);
  },
  eio: (name) => {
    throw Object.assign(new Error(`EIO: i/o error, failpoint ${name}`), { code: 'EIO' });
  },
};

interface Armed {
  readonly act: (name: string) => void;
  /** Every time, if absent. */
  readonly at: number | undefined;
  hits: number;
}

const armed = readArmed(process.env);

/** Fails here if a test says so; without a step, the hits of the point are counted instead. */
export function failpoint(name: string, step?: number): void {
  if (armed === undefined) return;
  const point = armed.get(name);
  if (point === undefined) return;
  point.hits++;
  if (point.at === undefined || point.at === (step ?? point.hits)) point.act(name);
}

/** Throws UsageError on a point that is not written as it should be. */
export function readArmed(environment: Readonly<Record<string, string | undefined>>): Map<string, Armed> | undefined {
  const text = environment['CROSSTOWER_FAILPOINTS'];
  if (environment['CROSSTOWER_TEST'] !== '1' || text === undefined) return undefined;
  return new Map(
    text.split(',').map((entry) => {
      const [, name = '', action = '', at] = /^([\w.]+)=(\w+)(?:@(\d+))?$/.exec(entry) ?? [];
      const act = actions[action];
      if (act === undefined) throw new UsageError(`CROSSTOWER_FAILPOINTS: '${entry}' is not NAME=ACTION[@STEP]`);
      return [name, { act, at: at === undefined ? undefined : Number(at), hits: 0 }];
    }),
  );
}
