// One set-up at a time for each cache: the second waits for the first and then finds everything done.
// The lock is a file that holds its owner's process id and is touched every few seconds. It is stale, and taken over, when
// its owner is gone from this machine or has not touched it for a minute (killed on another machine that shares the folder).
import { closeSync, openSync, readFileSync, renameSync, rmSync, statSync, utimesSync, writeSync } from 'node:fs';
import { hostname } from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';
import { say } from './report.mjs';

const touchMs = 5_000;
const staleMs = 60_000;
const pollMs = 250;

/** Waits for the lock file at `path` and returns a function that gives it back; it is also given back when this process exits. */
export async function takeLock(path) {
  const mine = `${process.pid} ${hostname()}`;
  let told = false;
  while (!createLock(path, mine)) {
    const owner = readLock(path);
    if (owner === undefined) continue; // Given back this very moment.
    if (isStale(owner)) {
      breakLock(path, owner);
      continue;
    }
    if (!told) say(`waiting for another set-up (process ${owner.text})`);
    told = true;
    await sleep(pollMs);
  }

  const touch = setInterval(() => utimesSync(path, new Date(), new Date()), touchMs);
  touch.unref();
  const release = () => {
    clearInterval(touch);
    process.off('exit', release).off('SIGINT', exitOnSigint).off('SIGTERM', exitOnSigterm);
    rmSync(path, { force: true });
  };
  const exitOnSigint = () => process.exit(130);
  const exitOnSigterm = () => process.exit(143);
  process.on('exit', release).on('SIGINT', exitOnSigint).on('SIGTERM', exitOnSigterm);
  return release;
}

function createLock(path, text) {
  try {
    const file = openSync(path, 'wx');
    writeSync(file, text);
    closeSync(file);
    return true;
  } catch (error) {
    if (error.code === 'EEXIST') return false;
    throw error;
  }
}

function readLock(path) {
  try {
    return { text: readFileSync(path, 'utf8'), ageMs: Date.now() - statSync(path).mtimeMs };
  } catch (error) {
    if (error.code === 'ENOENT') return undefined;
    throw error;
  }
}

function isStale({ text, ageMs }) {
  if (ageMs > staleMs) return true;
  const [pid, host] = text.split(' ');
  return host === hostname() && !isAlive(Number(pid));
}

function isAlive(pid) {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error.code === 'EPERM';
  }
}

/** Removes the stale lock that was seen, and only that one: of two set-ups that saw it, one may have replaced it already. */
function breakLock(path, seen) {
  if (readLock(path)?.text !== seen.text) return;
  const aside = `${path}.${process.pid}`;
  try {
    renameSync(path, aside);
  } catch (error) {
    if (error.code !== 'ENOENT') throw error;
  }
  rmSync(aside, { force: true });
}
