// Holds one process of a run for the launcher, on this machine or at the far end of an SSH connection:
//   supervise.mjs [--secret-key] PROGRAM ARGS...
// Standard input is the rope between the two: each line is the name of a signal to pass on, and its end means that the launcher, or the
// connection to it, is gone. So no process outlives its launcher, however that ended.
// With --secret-key the first line is a key, which the program is given as `--key FILE`, in a folder that goes away with it.
// The program leads a session of its own: Ctrl-C in the terminal reaches it once, through the launcher.

import { spawn } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';

/** After the rope is cut: time to finish the step and write the state. */
const stopMs = 10_000;

let [program, ...args] = process.argv.slice(2);
const rope = createInterface({ input: process.stdin });
if (program === '--secret-key') {
  [program, ...args] = args;
  rope.once('line', (secretKey) => {
    // Only its owner may enter a folder that mkdtemp makes.
    const folder = mkdtempSync(join(tmpdir(), 'crosstower-key-'));
    process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
    const file = join(folder, 'worker.key');
    writeFileSync(file, `${secretKey}\n`, { mode: 0o600 });
    supervise([...args, '--key', file]);
  });
} else {
  supervise(args);
}

function supervise(programArgs) {
  const child = spawn(program, programArgs, { detached: true, stdio: ['ignore', 'inherit', 'inherit'] });
  const signalGroup = (signal) => {
    try {
      process.kill(-child.pid, signal);
    } catch {
      // It has ended, and all that it started.
    }
  };
  child.on('error', (error) => {
    process.stderr.write(`${program} could not be started: ${error.message}\n`);
    process.exit(2);
  });
  child.on('exit', (code, signal) => {
    signalGroup('SIGKILL');
    process.exit(code ?? 128 + constants.signals[signal]);
  });
  rope.on('line', (line) => {
    // The end is for everything that it started; the rest is the command's own business.
    if (line === 'SIGKILL') signalGroup('SIGKILL');
    else child.kill(line);
  });
  rope.on('close', () => {
    child.kill('SIGTERM');
    setTimeout(() => signalGroup('SIGKILL'), stopMs);
  });
}
