// What the set-up says, and how it runs other programs. All of it goes to standard error: standard output belongs to
// the command that comes after the set-up (`npm run bench -- --json`).
import { spawn } from 'node:child_process';

/** A failure with a sentence for the user; exit code 2 where the machine or the command line must be mended first. */
export class SetupError extends Error {
  constructor(message, exitCode = 1) {
    super(message);
    this.name = 'SetupError';
    this.exitCode = exitCode;
  }
}

/** Prints a message, each of its lines marked as the set-up's. */
export function say(message) {
  for (const line of message.split('\n')) process.stderr.write(`setup: ${line}\n`);
}

const terminalRefreshMs = 1_000;
const plainRefreshMs = 20_000;

/**
 * Runs one long step behind a progress line: rewritten every second on a terminal, repeated now and then elsewhere.
 * `work` may set `progress.detail`, a few words (or a function that returns them) on how far it is.
 */
export async function step(title, work) {
  const progress = { detail: '' };
  const startedMs = performance.now();
  const line = (ending) => {
    const detail = typeof progress.detail === 'function' ? progress.detail() : progress.detail;
    const seconds = Math.round((performance.now() - startedMs) / 1_000);
    return `setup: ${title} ... ${[ending, detail, `${seconds} s`].filter(Boolean).join(', ')}`;
  };
  const { isTTY, columns = 80 } = process.stderr;
  const refresh = () => process.stderr.write(isTTY ? `\r\x1b[K${line('').slice(0, columns - 1)}` : `${line('')}\n`);

  if (isTTY) refresh();
  else say(`${title} ...`);
  const timer = setInterval(refresh, isTTY ? terminalRefreshMs : plainRefreshMs);
  try {
    const result = await work(progress);
    progress.detail = '';
    process.stderr.write(`${isTTY ? '\r\x1b[K' : ''}${line('done')}\n`);
    return result;
  } catch (error) {
    if (isTTY) process.stderr.write('\n');
    throw error;
  } finally {
    clearInterval(timer);
  }
}

const shownLines = 30;

/**
 * Runs a program to its end and returns its standard output; its output is shown only when it fails.
 * @throws {SetupError} with the last lines of the output, when the program cannot be started or fails.
 */
export function run(command, args, options = {}) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { stdio: ['ignore', 'pipe', 'pipe'], ...options });
    const stop = () => child.kill(); // A set-up that is stopped leaves nothing running that writes into the cache.
    process.on('exit', stop);
    let stdout = '';
    let all = '';
    child.stdout.setEncoding('utf8').on('data', (text) => {
      stdout += text;
      all += text;
    });
    child.stderr.setEncoding('utf8').on('data', (text) => {
      all += text;
    });
    child.on('error', (error) => reject(new SetupError(`${command} could not be started: ${error.message}`)));
    child.on('close', (code, signal) => {
      process.off('exit', stop);
      if (code === 0) return resolve(stdout);
      const tail = all.trimEnd().split('\n').slice(-shownLines).join('\n  ');
      reject(new SetupError(`${command} ${args[0]} failed (${signal ?? `exit code ${code}`}). It said:\n  ${tail}`));
    });
  });
}
