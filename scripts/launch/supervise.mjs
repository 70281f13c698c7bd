// Holds one process of a run for the launcher, on this machine or at the far end of an SSH connection: supervise.mjs PROGRAM ARGS...
// Standard input is the rope between the two: each line is the name of a signal to pass on, and its end means that the launcher, or the
// connection to it, is gone. So no process outlives its launcher, however that ended.
// The program leads a session of its own: Ctrl-C in the terminal reaches it once, through the launcher.

import { spawn } from 'node:child_process';
import { constants } from 'node:os';
import { createInterface } from 'node:readline';

/** After the rope is cut: time to finish the step and write the state. */
const stopMs = 10_000;

const [program, ...args] = process.argv.slice(2);
const child = spawn(program, args, { detached: true, stdio: ['ignore', 'inherit', 'inherit'] });

function signalGroup(signal) {
  try {
    process.kill(-child.pid, signal);
  } catch {
    // It has ended, and all that it started.
  }
}

child.on('error', (error) => {
  process.stderr.write(`${program} could not be started: ${error.message}\n`);
  process.exit(2);
});
child.on('exit', (code, signal) => {
  signalGroup('SIGKILL');
  process.exit(code ?? 128 + constants.signals[signal]);
});

const rope = createInterface({ input: process.stdin });
rope.on('line', (line) => {
  // The end is for everything that it started; the rest is the command's own business.
  if (line === 'SIGKILL') signalGroup('SIGKILL');
  else child.kill(line);
});
rope.on('close', () => {
  child.kill('SIGTERM');
  setTimeout(() => signalGroup('SIGKILL'), stopMs);
});
