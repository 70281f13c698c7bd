// Where the process tests play: starts real commands out of dist/, hears what they say, and clears everything away.
// Invariant: every process that a test starts, and whatever that starts in turn, carries the stage's mark in its environment. So all of
// them are found in /proc, whoever their parent is by now; a test that leaves one behind has failed (I6), and it is killed.
// Every address is on the loopback interface.

import { spawn } from 'node:child_process';
import type { ChildProcess } from 'node:child_process';
import { createHash, randomUUID } from 'node:crypto';
import { mkdtempSync, readFileSync, readdirSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import type { AddressInfo } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { expect, test as base } from 'vitest';

/** Config fields and flags by name; `true` for a flag without a value, `undefined` takes one of the defaults away. */
export type Flags = Readonly<Record<string, string | number | true | undefined>>;

/** A run of a few seconds; He initialisation, so that the weights move from the first step on. */
const shortRun: Flags = {
  network: 'tiny',
  data: 'synthetic:64,10,640',
  init: 'he',
  batch: 16,
  'eval-every': 1000,
  'join-timeout': 30,
  'step-timeout': 30,
  // Most tests want to see how a fault ends a run; those of recovery.test.ts that it does not.
  'max-restarts': 0,
};

/** More steps than any test waits for. */
export const endless = 1_000_000;

const markVariable = 'CROSSTOWER_TEST_STAGE';
const root = fileURLToPath(new URL('../../', import.meta.url));

/** A test with a stage of its own, which must be empty again at its end. */
export const test = base.extend<{ stage: Stage }>({
  stage: async ({ task: _ }, use) => {
    const stage = new Stage();
    try {
      await use(stage);
      await stage.expectEmpty();
    } finally {
      stage.clear();
    }
  },
});

/** A process in /proc. */
export interface ProcessView {
  readonly pid: number;
  /** As ps shows it: R, S, T (stopped), ... */
  readonly state: string;
  readonly args: readonly string[];
  /** The process that computes, which the worker's command has started. */
  readonly isRealWorker: boolean;
}

export class Stage {
  readonly folder = mkdtempSync(join(tmpdir(), 'crosstower-processes-'));
  readonly scripts = {
    coordinator: join(root, 'dist/src/coordinator/cli.js'),
    worker: join(root, 'dist/src/worker/cli.js'),
    launcher: join(root, 'scripts/cluster-launch.sh'),
  };
  readonly #mark = randomUUID();
  readonly #commands: Command[] = [];

  /** A path in a folder that goes away with the stage. */
  path(name: string): string {
    return join(this.folder, name);
  }

  /** Starts any program; `ownGroup` puts it into a process group of its own, as a shell does with a job, `listens` opens its input. */
  start(
    program: string,
    args: readonly string[],
    { ownGroup = false, listens = false, failpoints }: { ownGroup?: boolean; listens?: boolean; failpoints?: string } = {},
  ): Command {
    const child = spawn(program, args, {
      cwd: this.folder,
      env: {
        ...process.env,
        [markVariable]: this.#mark,
        ...(failpoints === undefined ? {} : { CROSSTOWER_TEST: '1', CROSSTOWER_FAILPOINTS: failpoints }),
      },
      stdio: [listens ? 'pipe' : 'ignore', 'pipe', 'pipe'],
      detached: ownGroup,
    });
    const command = new Command(child, [program, ...args].join(' '));
    this.#commands.push(command);
    return command;
  }

  /**
   * Starts `coordinator start` for a short run that listens at a free port and writes into the folder `run`; `failpoints` as in
   * src/spec/failpoint.ts.
   */
  coordinator(flags: Flags = {}, failpoints?: string): Command {
    const isLocal = flags['local'] !== undefined;
    const args = this.startArguments({ ...(isLocal ? {} : { bind: 'tcp://127.0.0.1:0' }), ...flags });
    return this.#node(this.scripts.coordinator, ['start', ...args], failpoints);
  }

  /** What `coordinator start` gets for a short run. */
  startArguments(flags: Flags): string[] {
    return asArguments({ ...shortRun, 'run-dir': 'run', ...flags });
  }

  /** Starts `worker --cpu --threads 1`. */
  worker(flags: Flags = {}, failpoints?: string): Command {
    return this.#node(this.scripts.worker, workerArguments(flags), failpoints);
  }

  /** The same commands, as a shell takes them. */
  commandLine(command: 'coordinator' | 'worker', flags: Flags): string {
    const args = command === 'coordinator' ? ['start', ...this.startArguments(flags)] : workerArguments(flags);
    return [process.execPath, this.scripts[command], ...args].map((arg) => `'${arg}'`).join(' ');
  }

  #node(script: string, args: readonly string[], failpoints?: string): Command {
    return this.start(process.execPath, [script, ...args], failpoints === undefined ? {} : { failpoints });
  }

  /** Starts a coordinator and its two workers, three commands. */
  async run(flags: Flags = {}, workerFlags: Flags = {}): Promise<Run> {
    const coordinator = this.coordinator(flags);
    const address = await coordinator.address();
    const workers = ([0, 1] as const).map((tower) => this.worker({ coordinator: address, tower, ...workerFlags }));
    return { coordinator, address, workers: workers as unknown as Run['workers'] };
  }

  /** Runs one training to its end, both workers started by the coordinator, and gives the hash of the model's file. */
  async trainedModel(flags: Flags, runDir = `model-${randomUUID()}`): Promise<string> {
    const coordinator = this.coordinator({ local: 'cpu', threads: 1, ...flags, 'run-dir': runDir });
    expect(await coordinator.exit(60_000), coordinator.output).toBe(0);
    return this.modelHash(runDir);
  }

  modelHash(runDir = 'run'): string {
    return createHash('sha256')
      .update(readFileSync(join(this.path(runDir), 'model.safetensors')))
      .digest('hex');
  }

  /** The whole lines of metrics.jsonl; none before it is there. */
  metrics(runDir = 'run'): Record<string, unknown>[] {
    let text = '';
    try {
      text = readFileSync(join(this.path(runDir), 'metrics.jsonl'), 'utf8');
    } catch {
      return [];
    }
    const lines = text.split('\n').slice(0, -1);
    return lines.map((line) => JSON.parse(line) as Record<string, unknown>);
  }

  /** The steps that are in the metrics. */
  steps(runDir = 'run'): Record<string, unknown>[] {
    return this.metrics(runDir).filter((record) => record['kind'] === 'step');
  }

  /** What of the metrics is the run's own, and not the machine's. */
  course(runDir = 'run'): unknown[] {
    return this.metrics(runDir).map(({ kind, step, epoch, loss, top1, top5, learningRate, verdict, scale }) => ({
      ...{ kind, step, epoch, loss, top1, top5, learningRate, verdict, scale },
    }));
  }

  /** Waits until so many steps have been recorded: longer than the commands wait for each other, so that they say what is wrong. */
  async reached(step: number, runDir = 'run'): Promise<void> {
    const isReached = (): boolean => this.steps(runDir).length >= step;
    await until(`step ${step} in the metrics`, isReached, 45_000).catch((error: unknown) => {
      const outputs = this.#commands.map((command) => command.report);
      throw new Error(`${String(error)}\n${outputs.join('\n')}`, { cause: error });
    });
  }

  /** The processes of this stage that are alive now. */
  processes(): ProcessView[] {
    return readdirSync('/proc')
      .filter((name) => /^\d+$/.test(name))
      .map((name) => viewOf(Number(name), `${markVariable}=${this.#mark}`))
      .filter((view) => view !== undefined);
  }

  /** The process that computes a tower, as started with `--tower`. */
  async realWorker(tower: 0 | 1 | 'both'): Promise<ProcessView> {
    const find = (): ProcessView | undefined =>
      this.processes().find(({ isRealWorker, args }) => isRealWorker && towerOf(args) === String(tower));
    await until(`the process of tower ${tower}`, () => find() !== undefined, 20_000);
    return find()!;
  }

  async signalRealWorker(tower: 0 | 1 | 'both', signal: NodeJS.Signals): Promise<void> {
    process.kill((await this.realWorker(tower)).pid, signal);
  }

  /** Every process has ended by itself, or is about to. */
  async expectEmpty(withinMs = 3000): Promise<void> {
    const deadline = performance.now() + withinMs;
    while (this.processes().length > 0 && performance.now() < deadline) await sleep(20);
    expect(this.processes(), 'processes that were left behind').toEqual([]);
  }

  /** Kills what is left and removes the folder. */
  clear(): void {
    for (let round = 0; round < 5; round++) {
      for (const { pid } of this.processes()) {
        try {
          process.kill(pid, 'SIGKILL');
        } catch {
          // It has ended by itself meanwhile.
        }
      }
    }
    rmSync(this.folder, { recursive: true, force: true, maxRetries: 5, retryDelay: 50 });
  }
}

export interface Run {
  readonly coordinator: Command;
  readonly address: string;
  readonly workers: readonly [Command, Command];
}

/** A command that was started, and what it has said so far. */
export class Command {
  /** Both streams, as they came. */
  output = '';
  /** Standard output alone. */
  printed = '';
  readonly #child: ChildProcess;
  readonly #name: string;
  readonly #ended: Promise<number | NodeJS.Signals>;
  #hasEnded = false;

  constructor(child: ChildProcess, name: string) {
    this.#child = child;
    this.#name = name;
    for (const stream of [child.stdout, child.stderr]) {
      stream?.setEncoding('utf8').on('data', (text: string) => {
        this.output += text;
      });
    }
    child.stdout?.on('data', (text: string) => {
      this.printed += text;
    });
    this.#ended = new Promise((resolve, reject) => {
      child.once('error', reject);
      child.once('exit', (code, signal) => {
        // What it said last is read before this is heard; a stream that a child of it still holds is not waited for.
        const end = signal ?? code ?? NaN;
        const giveUp = setTimeout(resolve, 500, end);
        child.once('close', () => {
          clearTimeout(giveUp);
          resolve(end);
        });
      });
    });
    this.#ended.then(
      () => (this.#hasEnded = true),
      () => (this.#hasEnded = true),
    );
  }

  get pid(): number {
    return this.#child.pid!;
  }

  get lines(): string[] {
    return this.output.split('\n').filter((line) => line !== '');
  }

  /** The last line of its output: what an error says. */
  get lastLine(): string {
    return this.lines.at(-1) ?? '';
  }

  get isRunning(): boolean {
    return !this.#hasEnded;
  }

  /** What it has said, for the error of a test. */
  get report(): string {
    return `${this.#name} (${this.#hasEnded ? 'ended' : 'running'}) said:\n${this.output}`;
  }

  /** Waits for a line. */
  async said(pattern: RegExp, withinMs = 20_000): Promise<RegExpExecArray> {
    await until(`${String(pattern)} from ${this.#name}`, () => pattern.test(this.output) || this.#hasEnded, withinMs);
    const match = pattern.exec(this.output);
    if (match === null) throw new Error(`${this.#name} ended without saying ${String(pattern)}, but:\n${this.output}`);
    return match;
  }

  /** Where a coordinator listens. */
  async address(): Promise<string> {
    const [, address] = await this.said(/listening at (\S+)/);
    return address!;
  }

  /** Its exit code, or the signal that ended it; throws if it is still running at the deadline. */
  async exit(withinMs = 20_000): Promise<number | NodeJS.Signals> {
    const end = await Promise.race([this.#ended, sleep(withinMs, undefined, { ref: false })]);
    if (end === undefined) throw new Error(`${this.#name} still runs after ${withinMs} ms; it said:\n${this.output}`);
    return end;
  }

  signal(name: NodeJS.Signals): void {
    process.kill(this.pid, name);
  }

  /** A signal to everybody in its process group, as Ctrl-C sends it. */
  signalGroup(name: NodeJS.Signals): void {
    process.kill(-this.pid, name);
  }

  /** Types into its input. */
  write(text: string): void {
    this.#child.stdin?.write(text);
  }

  /** Nothing more comes from its input. */
  closeInput(): void {
    this.#child.stdin?.end();
  }

  /** Nobody reads its output any more, as after `| head -1`. */
  closeOutput(): void {
    this.#child.stdout?.destroy();
  }
}

/** Polls a condition; throws when it does not come true in time. */
export async function until(what: string, isTrue: () => boolean, withinMs: number): Promise<void> {
  const deadline = performance.now() + withinMs;
  while (!isTrue()) {
    if (performance.now() > deadline) throw new Error(`waited ${withinMs} ms for ${what}`);
    await sleep(5);
  }
}

/** An address that nobody listens at, for commands that must agree on one beforehand. */
export async function freeAddress(): Promise<string> {
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return `tcp://127.0.0.1:${port}`;
}

function asArguments(flags: Flags): string[] {
  return Object.entries(flags)
    .filter(([, value]) => value !== undefined)
    .map(([name, value]) => (value === true ? `--${name}` : `--${name}=${value!}`));
}

function workerArguments(flags: Flags): string[] {
  return asArguments({ cpu: true, threads: 1, 'join-timeout': 30, ...flags });
}

function towerOf(args: readonly string[]): string | undefined {
  const at = args.findIndex((arg) => arg === '--tower' || arg.startsWith('--tower='));
  return args[at] === '--tower' ? args[at + 1] : args[at]?.slice('--tower='.length);
}

/** A process, if it is alive and carries the mark. */
function viewOf(pid: number, mark: string): ProcessView | undefined {
  try {
    const environment = readFileSync(`/proc/${pid}/environ`, 'latin1').split('\0');
    if (!environment.includes(mark)) return undefined;
    const args = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0').slice(0, -1);
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1');
    const state = stat.slice(stat.lastIndexOf(')') + 2, stat.lastIndexOf(')') + 3);
    return { pid, state, args, isRealWorker: environment.includes('CROSSTOWER_WORKER_PROCESS=1') };
  } catch {
    // It ended while we looked, or belongs to somebody else.
    return undefined;
  }
}
