// `npm run bench:flood`: what a flood of bad and idle connections costs a run of two workers under keys. Windows under a flood of the
// coordinator's port alternate with windows of the same flood at a port of somebody else on this machine, so that their quotient leaves
// out what the flood costs whoever makes it, and with quiet ones. The processor time of the coordinator's threads says the same of a
// machine that is not quiet.

import { readFileSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { z } from 'zod';
import { CrosstowerError, exitCodes } from '../src/spec/errors.ts';
import { networks } from '../src/spec/network.ts';
import { percent, textTable, threeDigits } from '../src/coordinator/textTable.ts';
import { machineLine, parseBenchFlags, sayer, thisMachine, warnIfBusy } from './benchOptions.ts';
import { runCommand } from './command.ts';
import { coordinatorCommand, readSteps } from './crosstowerRound.ts';
import { LineProcess } from './lineProcess.ts';
import type { ProcessKeeper } from './processKeeper.ts';
import { median } from './statistics.ts';
import { atLeast, benchClasses, parseNetwork } from './throughputOptions.ts';
import type { BenchNetwork } from './throughputOptions.ts';

const help = `npm run bench:flood -- [options]

Trains with two workers under keys, and measures the time of a step while strangers flood the coordinator's port, while the same strangers
flood another port, and while they do nothing. The strangers have the lowest priority. As it comes, ten thousand bad connections in all
windows together, and a thousand idle ones at any time, which the coordinator throws out after five seconds each.

Options
  --network NAME   alexnet or compact (default: compact)
  --batch N        pictures a step (default: 128)
  --bad N          bad connections a second (default: 200)
  --idle N         connections that are kept open and say nothing (default: 1000)
  --rounds N       windows of each kind (default: 5)
  --seconds N      of a window (default: 10; alexnet: 30)
  --warmup N       steps before the first window (default: 50; alexnet: 8)
  --json           one JSON object on standard output
  --help           this text`;

const defaults = { alexnet: { seconds: '30', warmup: '8' }, compact: { seconds: '10', warmup: '50' } } as const;

const kinds = ['quiet', 'elsewhere', 'flooded'] as const;
type Kind = (typeof kinds)[number];
const titles: Readonly<Record<Kind, string>> = { quiet: 'quiet', elsewhere: 'flood elsewhere', flooded: 'flood here' };

/** What happened in one window; processor time in milliseconds a second. */
interface Window {
  readonly stepMs: number;
  readonly bad: number;
  readonly idle: number;
  readonly strangersCpu: number;
  /** Of the coordinator: JavaScript, libzmq's network thread, all the others. */
  readonly mainCpu: number;
  readonly networkCpu: number;
  readonly otherCpu: number;
}

const floodedSchema = z.object({ bad: z.int(), idle: z.int(), cpuMs: z.number() });
const workerCommand = fileURLToPath(new URL('../src/worker/cli.js', import.meta.url));
const strangersScript = fileURLToPath(new URL('strangers.js', import.meta.url));
/** Idle connections are closed, and what was closed is forgotten, before the next window. */
const settleMs = 1500;

/** Milliseconds that the threads of a process have had a core, by what they are for. */
function threadCpu(pid: number): { readonly main: number; readonly network: number; readonly other: number } {
  const sum = { main: 0, network: 0, other: 0 };
  for (const thread of readdirSync(`/proc/${pid}/task`)) {
    const of = (file: string): string => readFileSync(`/proc/${pid}/task/${thread}/${file}`, 'utf8');
    const kind = thread === String(pid) ? 'main' : of('comm').includes('ZMQbg/IO') ? 'network' : 'other';
    // Nanoseconds on a core come first.
    sum[kind] += Number(of('schedstat').split(' ')[0]) / 1e6;
  }
  return sum;
}

interface Run {
  readonly port: number;
  readonly pid: number;
  readonly stepsSoFar: () => number[];
}

/** A run under keys that has done its warm-up; throws CrosstowerError where it ends instead. */
async function startRun(keeper: ProcessKeeper, network: BenchNetwork, batch: number, warmup: number): Promise<Run> {
  const cwd = keeper.temporaryFolder();
  const start = (script: string, args: readonly string[]) =>
    keeper.spawn(process.execPath, [script, ...args], { cwd, stdio: ['ignore', 'pipe', 'inherit'] });
  await start(coordinatorCommand, ['keygen']).ended;
  const flags = {
    '--bind': 'tcp://127.0.0.1:0',
    '--keys': 'keys',
    '--run-dir': 'run',
    '--network': network,
    '--data': `synthetic:${networks[network].inputSize},${benchClasses[network]},${8 * batch}`,
    '--augment': 'none',
    '--batch': String(batch),
    '--epochs': '1000000',
    '--eval-every': '1000000',
    '--checkpoint-every': '1000000',
  };
  const coordinator = start(coordinatorCommand, ['start', ...Object.entries(flags).flat()]);
  let said = '';
  coordinator.child.stdout?.setEncoding('utf8').on('data', (text: string) => (said += text));
  let ending: string | undefined;
  void coordinator.ended.then((how) => (ending = how));
  const until = async <T>(find: () => T | undefined): Promise<T> => {
    for (;;) {
      const found = find();
      if (found !== undefined) return found;
      if (ending !== undefined) throw new CrosstowerError(exitCodes.peerLost, `the run ended (${ending}); it said:\n${said}`);
      await sleep(100);
    }
  };
  const port = await until(() => /listening at tcp:\/\/127\.0\.0\.1:(\d+)/.exec(said)?.[1]);
  for (const tower of ['tower0', 'tower1']) {
    const keys = ['--key', `keys/${tower}.key`, '--coordinator-key', 'keys/coordinator.pub'];
    start(workerCommand, ['--cpu', '--threads', '1', '--coordinator', `tcp://127.0.0.1:${port}`, ...keys]);
  }
  const metrics = join(cwd, 'run', 'metrics.jsonl');
  const stepsSoFar = (): number[] => readSteps(metrics).map(({ imagesPerSecond }) => (1000 * batch) / imagesPerSecond);
  await until(() => (stepsSoFar().length >= warmup ? true : undefined));
  return { port: Number(port), pid: coordinator.child.pid ?? 0, stepsSoFar };
}

await runCommand('flood', async (keeper) => {
  const flags = parseBenchFlags(process.argv.slice(2), ['network', 'batch', 'bad', 'idle', 'rounds', 'seconds', 'warmup']);
  if (flags.isHelp) {
    console.log(help);
    return exitCodes.done;
  }
  const say = sayer('flood');
  warnIfBusy(say);
  const network = parseNetwork(flags.network ?? 'compact');
  const batch = atLeast(1, 'batch', flags.batch ?? '128');
  const rate = atLeast(1, 'bad', flags.bad ?? '200');
  const idle = atLeast(0, 'idle', flags.idle ?? '1000');
  const rounds = atLeast(1, 'rounds', flags.rounds ?? '5');
  const seconds = atLeast(1, 'seconds', flags.seconds ?? defaults[network].seconds);
  const run = await startRun(keeper, network, batch, atLeast(1, 'warmup', flags.warmup ?? defaults[network].warmup));
  const strangers = (name: string): LineProcess =>
    new LineProcess(keeper, { name, command: process.execPath, args: [strangersScript, name], environment: process.env });
  const flood = strangers('flood');
  const { port: sinkPort } = z.object({ port: z.int() }).parse(await strangers('sink').ask());

  const measure = async (kind: Kind): Promise<Window> => {
    const [stepsBefore, before] = [run.stepsSoFar().length, threadCpu(run.pid)];
    const order = { port: kind === 'flooded' ? run.port : sinkPort, rate, idle, seconds };
    const did =
      kind === 'quiet'
        ? await sleep(1000 * seconds, { bad: 0, idle: 0, cpuMs: 0 })
        : floodedSchema.parse(await flood.ask(JSON.stringify(order)));
    const after = threadCpu(run.pid);
    // The first step may have begun before the window did.
    const steps = run.stepsSoFar().slice(stepsBefore + 1);
    if (steps.length === 0) throw new CrosstowerError(exitCodes.usage, `no step in ${seconds} s: give more --seconds`);
    await sleep(settleMs);
    return {
      stepMs: median(steps),
      bad: did.bad,
      idle: did.idle,
      strangersCpu: did.cpuMs / seconds,
      mainCpu: (after.main - before.main) / seconds,
      networkCpu: (after.network - before.network) / seconds,
      otherCpu: (after.other - before.other) / seconds,
    };
  };
  const windows: Record<Kind, Window[]> = { quiet: [], elsewhere: [], flooded: [] };
  for (let i = 0; i < rounds; i++) {
    // There and back again, so that a machine that becomes slower or faster meets all kinds alike.
    for (const kind of i % 2 === 0 ? kinds : kinds.toReversed()) windows[kind].push(await measure(kind));
    const at = (kind: Kind): string => `${threeDigits(windows[kind].at(-1)?.stepMs ?? NaN)} ms ${titles[kind]}`;
    say(`round ${i + 1}: ${kinds.map(at).join(', ')}`);
  }
  const machine = thisMachine();
  const losses = windows.flooded.map(({ stepMs }, i) => stepMs / (windows.elsewhere[i]?.stepMs ?? NaN) - 1);
  const loss = { median: median(losses), least: Math.min(...losses), greatest: Math.max(...losses) };
  const totals = (kind: Kind, of: 'bad' | 'idle'): number => windows[kind].reduce((sum, window) => sum + window[of], 0);
  const medians = (kind: Kind, of: keyof Window): number => median(windows[kind].map((window) => window[of]));
  if (flags.isJson) console.log(JSON.stringify({ machine, network, batch, rate, idle, seconds, loss, windows }));
  else {
    const rows = kinds.map((kind) => [
      titles[kind],
      threeDigits(medians(kind, 'stepMs')),
      String(totals(kind, 'bad')),
      String(totals(kind, 'idle')),
      ...(['mainCpu', 'networkCpu', 'otherCpu', 'strangersCpu'] as const).map((of) => medians(kind, of).toFixed(0)),
    ]);
    const head = ['', 'ms a step', 'bad', 'idle', 'coordinator: main', 'network', 'other', 'strangers'];
    console.log(
      `${network}, batch ${batch}, ${machineLine(machine)}; processor time in ms a second\n\n${textTable([head, ...rows])}`,
    );
    console.log(
      `\nThe trainer loses ${percent(loss.median)} (${percent(loss.least)} to ${percent(loss.greatest)}) to the flood: a step with it here against one with it elsewhere`,
    );
  }
  return exitCodes.done;
});
