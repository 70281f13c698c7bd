// The processes of one run, wherever they are: their output line by line behind the name of who says it, one stop for all, and one exit
// code. Invariant: when one fails, all end; the one whose own words explain it has the last word, and its exit code is the launcher's.
// A worker that is lost is started again for as long as the coordinator stays, whose decision it is how often a run goes on without one.

import { spawn } from 'node:child_process';
import { createInterface } from 'node:readline';
import { commandIn } from './machine.mjs';
import { say } from './report.mjs';

/** After a failure: time for the others to say what they lost. */
const lastWordsMs = 2_000;
/** After a worker is lost: time for the coordinator to say that it gives up. */
const restartMs = 1_000;
/** After the coordinator's good end: time for the workers to end as well. */
const farewellMs = 15_000;
/** After SIGTERM: time to finish the step and write the state. */
const stopMs = 10_000;
/** A second stop request within this time is the same Ctrl-C, heard twice. */
const oneRequestMs = 100;

/** A process or a connection is gone (docs/adr/0006-exit-codes.md): mostly the consequence of another failure. */
const peerLost = 3;
/** What ssh (could not connect, or lost its connection) and a shell (no such command) exit with. */
const notOurs = new Map([
  [255, peerLost],
  [127, 2],
  [126, 2],
]);

/** The words that run a program under the supervise.mjs of a checkout; with `secretKey` it waits for a key first. */
export function supervised(folder, command, args, { node = process.execPath, secretKey = false } = {}) {
  const flags = secretKey ? ['--secret-key'] : [];
  return [node, `${folder}/scripts/launch/supervise.mjs`, ...flags, commandIn(folder, command), ...args];
}

/**
 * Runs processes until all have ended, and returns the exit code.
 * @param members `{ name, command, coordinator?, secretKey? }`; each command ends up in a supervise.mjs, whose rope its input is
 */
export function runParty(members) {
  return new Promise((resolve) => new Party(members, resolve));
}

class Party {
  #running = new Set();
  #failures = [];
  /** Everybody is expected to end: the coordinator has, or one has failed, or a stop was asked for. */
  #isEnding = false;
  /** Everybody has been told to. */
  #isStopping = false;
  #stopRequestedMs;
  #timer;
  #resolve;
  #onSignal = () => this.#requestStop();

  constructor(members, resolve) {
    this.#resolve = resolve;
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, this.#onSignal);
    for (const member of members) this.#start(member);
  }

  #start(recipe) {
    const { name, command, coordinator = false, secretKey } = recipe;
    const [program, ...args] = command;
    // Detached: out of reach of Ctrl-C, which the launcher passes on.
    const child = spawn(program, args, { detached: true, stdio: ['pipe', 'pipe', 'pipe'] });
    const member = { recipe, name, coordinator, child, ownWords: undefined, lastError: undefined };
    this.#running.add(member);
    child.stdin.on('error', () => undefined); // It has ended meanwhile.
    if (secretKey !== undefined) child.stdin.write(`${secretKey}\n`);
    for (const stream of [child.stdout, child.stderr]) {
      createInterface({ input: stream }).on('line', (line) => {
        process.stdout.write(`${name} | ${line}\n`);
        if (stream === child.stdout || line.trim() === '') return;
        // A command says on standard error what went wrong with itself, and on standard output what it was told of others.
        if (/^(coordinator|worker): /.test(line)) member.ownWords = line;
        member.lastError = line;
      });
    }
    child.on('error', (error) => {
      member.ownWords = `${program} could not be started: ${error.message}`;
      this.#noteEnd(member, 2);
    });
    child.on('close', (code) => this.#noteEnd(member, code ?? 1));
  }

  #noteEnd(member, endCode) {
    if (!this.#running.delete(member)) return;
    const { name, coordinator } = member;
    const code = notOurs.get(endCode) ?? endCode;
    const isLost = !coordinator && (code === peerLost || code > 128);
    if (code !== 0) {
      // The command was never reached, or had no time for words.
      if (notOurs.has(endCode)) member.ownWords ??= member.lastError;
      else if (code > 128) member.ownWords ??= `killed by signal ${code - 128}`;
      this.#failures.push({ ...member, code, wasStopped: this.#isStopping });
    }
    if (this.#isEnding) {
      if (code !== 0) say(`${name} stopped with exit code ${code}`);
    } else if (isLost && this.#coordinatorRuns) {
      say(`${name} is lost (exit code ${code})`);
      setTimeout(() => this.#restart(member), restartMs).unref();
    } else if (code !== 0) {
      this.#isEnding = true;
      say(`${name} failed with exit code ${code}; stopping the others`);
      this.#after(lastWordsMs, () => this.#stopAll());
    } else if (coordinator) {
      this.#isEnding = true;
      this.#failures = []; // Whoever was lost at last was not needed any more.
      this.#after(farewellMs, () => this.#giveUpOnWorkers());
    }
    if (this.#running.size === 0) this.#end();
  }

  get #coordinatorRuns() {
    return [...this.#running].some(({ coordinator }) => coordinator);
  }

  #restart({ child, recipe }) {
    if (this.#isEnding) return;
    this.#failures = this.#failures.filter((failure) => failure.child !== child);
    say(`starting ${recipe.name} again`);
    this.#start(recipe);
  }

  #end() {
    clearTimeout(this.#timer);
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.off(signal, this.#onSignal);
    const blamed = blame(this.#failures);
    if (blamed?.ownWords !== undefined && this.#stopRequestedMs === undefined) say(`${blamed.name} failed: ${blamed.ownWords}`);
    this.#resolve(blamed?.code ?? 0);
  }

  #requestStop() {
    const nowMs = performance.now();
    if (this.#stopRequestedMs === undefined) {
      this.#stopRequestedMs = nowMs;
      this.#isEnding = true;
      say('stopping: every process finishes its step (once more to end them at once)');
      this.#stopAll();
    } else if (nowMs - this.#stopRequestedMs > oneRequestMs) {
      this.#killAll();
    }
  }

  #stopAll() {
    this.#isStopping = true;
    this.#tellAll('SIGTERM');
    this.#after(stopMs, () => this.#killAll());
  }

  #giveUpOnWorkers() {
    const names = [...this.#running].map(({ name }) => name);
    say(`the coordinator has ended and still running are: ${names.join(', ')}`);
    this.#failures.push({ name: names[0], code: 1, wasStopped: false });
    this.#stopAll();
  }

  #killAll() {
    for (const { name } of this.#running) say(`${name} has not stopped; it is killed`);
    this.#tellAll('SIGKILL');
    // Who does not hear it any more (a connection that hangs) is left to its supervisor, which sees the rope cut.
    this.#after(lastWordsMs, () => {
      for (const { child } of this.#running) child.kill('SIGKILL');
    });
  }

  #tellAll(signal) {
    for (const { child } of this.#running) child.stdin.write(`${signal}\n`);
  }

  /** Calls the function then, unless all have ended or another timer has been set. */
  #after(ms, what) {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(what, ms);
  }
}

/**
 * The failure behind all others: `{ coordinator, code, ownWords, wasStopped }` each, in the order of their ends. Who was dismissed because
 * of another has no words of its own, who lost another exits with 3, and what the coordinator says of a worker that worker says better.
 */
export function blame(failures) {
  const withWords = failures.filter(({ ownWords, wasStopped }) => ownWords !== undefined && !wasStopped);
  const causes = withWords.filter(({ code }) => code !== peerLost);
  const candidates = causes.length > 0 ? causes : withWords;
  return candidates.find(({ coordinator }) => !coordinator) ?? candidates[0] ?? failures[0];
}
