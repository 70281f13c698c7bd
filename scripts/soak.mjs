// `npm run soak -- --minutes 20 --seed 7`: runs of a small network with faults drawn from the seed, until the time is up (test/soak).
// Invariant: however it ends (time, fault, Ctrl-C, SIGTERM, a soak that is stuck itself), there is a report, and no process of it stays behind.

import { spawn } from 'node:child_process';
import { mkdtempSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';

const { values } = parseArgs({ options: { minutes: { type: 'string', default: '20' }, seed: { type: 'string', default: '1' } } });
if (!(Number(values.minutes) > 0) || !/^\d+$/.test(values.seed)) {
  console.error('soak: --minutes takes a number above 0, --seed a whole number');
  process.exit(2);
}

/** How long the soak may take to stop its commands and to write its report. */
const stopMs = 20_000;
/** How long it may go without writing its report, which it does at every fault: longer than it takes to notice a run that hangs. */
const stillMs = 180_000;

const folder = mkdtempSync(join(tmpdir(), 'crosstower-soak-'));
// Whatever the soak starts has this in its environment, and is found by it.
const mark = `CROSSTOWER_SOAK_FOLDER=${folder}`;
const vitest = fileURLToPath(new URL('../node_modules/vitest/vitest.mjs', import.meta.url));
// In a process group of its own: Ctrl-C reaches this process alone, and the soak ends in good order.
const child = spawn(process.execPath, [vitest, 'run', '--project', 'soak'], {
  stdio: 'inherit',
  detached: true,
  env: {
    ...process.env,
    CROSSTOWER_SOAK_MINUTES: values.minutes,
    CROSSTOWER_SOAK_SEED: values.seed,
    CROSSTOWER_SOAK_FOLDER: folder,
    TMPDIR: folder, // What a run has written goes with it.
  },
});

/** Asks the soak to end; one that does not is killed. */
function stop(reason) {
  writeFileSync(join(folder, 'stop'), reason);
  setTimeout(clear, stopMs).unref();
}

/** Kills whatever carries the mark. */
function clear() {
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    try {
      if (readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0').includes(mark)) process.kill(Number(pid), 'SIGKILL');
    } catch {
      // It has ended, or belongs to somebody else.
    }
  }
}

const startedAt = Date.now();
let stoppedBy;
for (const [signal, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
  ['SIGHUP', 129],
]) {
  process.on(signal, () => {
    stoppedBy ??= code;
    stop(signal);
  });
}
setInterval(() => {
  const stillForMs = Date.now() - Math.max(startedAt, statSync(join(folder, 'report'), { throwIfNoEntry: false })?.mtimeMs ?? 0);
  if (stillForMs < stillMs || stoppedBy !== undefined) return;
  stoppedBy = 1;
  console.error(`soak: HANG: the soak itself has done nothing for ${stillMs / 1000} s`);
  stop('it hangs');
}, 5000).unref();

const [code] = await new Promise((resolve) => child.once('exit', (...end) => resolve(end)));
clear();
try {
  console.log(readFileSync(join(folder, 'report'), 'utf8').trimEnd());
} catch {
  console.log('soak: it ended before there was anything to report');
}
rmSync(folder, { recursive: true, force: true });
process.exit(stoppedBy ?? code ?? 1);
