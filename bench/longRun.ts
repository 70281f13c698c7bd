// `npm run bench:long`: whether a long run stays as it began: memory, open files and live tensors of every process, and the time of a step.

import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { CrosstowerError, exitCodes } from '../src/spec/errors.ts';
import { networks, planNetwork } from '../src/spec/network.ts';
import { machineLine, parseBenchFlags, sayer, thisMachine } from './benchOptions.ts';
import { runCommand } from './command.ts';
import { coordinatorArguments, coordinatorCommand, readSteps } from './crosstowerRound.ts';
import { leafUsage, usageOf } from './processTree.ts';
import type { ProcessUsage } from './processTree.ts';
import { median } from './statistics.ts';
import { percent, textTable, threeDigits } from '../src/coordinator/textTable.ts';
import { atLeast, benchClasses, parseNetwork } from './throughputOptions.ts';

const help = `npm run bench:long -- [options]

Trains for many steps and compares the last quarter of the run with the second: resident memory and open files of the coordinator and of
each worker, the time of a step; and whether the number of live tensors was ever another after the first steps.

Options
  --network NAME   alexnet or compact (default: compact)
  --steps N        steps (default: 2000; alexnet: 300)
  --json           one JSON object on standard output
  --help           this text`;

const defaults = { alexnet: '300', compact: '2000' } as const;
const batch = 128;
const sampleMs = 500;

/** Steps after which the allocator has what it needs. */
const settled = 10;

interface Sample {
  readonly step: number;
  readonly usage: ReadonlyMap<number, ProcessUsage>;
}

/** The values of one process in one quarter (0..3) of the steps. */
function inQuarter(samples: readonly Sample[], pid: number, steps: number, quarter: number): ProcessUsage[] {
  return samples
    .filter(({ step }) => Math.min(3, Math.floor((4 * step) / steps)) === quarter)
    .flatMap(({ usage }) => usage.get(pid) ?? []);
}

await runCommand('long', async (keeper) => {
  const flags = parseBenchFlags(process.argv.slice(2), ['network', 'steps']);
  if (flags.isHelp) {
    console.log(help);
    return exitCodes.done;
  }
  const say = sayer('long');
  const network = parseNetwork(flags.network ?? 'compact');
  const plan = planNetwork(networks[network], benchClasses[network]);
  const steps = atLeast(40, 'steps', flags.steps ?? defaults[network]);
  const runFolder = join(keeper.temporaryFolder(), 'run');
  const options = { network: plan.spec, classes: plan.classes, batch, steps, warmup: 0, threads: 1 };
  const runFlags = ['--steps', String(steps), '--checkpoint-every', String(steps)];
  const run = keeper.spawn(
    process.execPath,
    [coordinatorCommand, ...coordinatorArguments({ ...options, flags: runFlags }, runFolder)],
    { stdio: ['ignore', 'ignore', 'inherit'] },
  );
  const coordinator = run.child.pid;
  if (coordinator === undefined) throw new CrosstowerError(exitCodes.peerLost, 'coordinator start could not be started');
  let how: string | undefined;
  void run.ended.then((ending) => {
    how = ending;
  });
  const samples: Sample[] = [];
  const metrics = join(runFolder, 'metrics.jsonl');
  while (how === undefined) {
    await sleep(sampleMs);
    const step = readSteps(metrics).length;
    const usage = [usageOf(coordinator), ...leafUsage(coordinator)].flatMap((one) => one ?? []);
    // The last step writes a checkpoint, and the processes leave.
    if (step > settled && step < steps) samples.push({ step, usage: new Map(usage.map((one) => [one.pid, one])) });
  }
  const records = readSteps(metrics);
  if (records.length < steps)
    throw new CrosstowerError(exitCodes.peerLost, `the run ended after ${records.length} steps (${how})`);

  const pids = [...(samples.at(-1)?.usage.keys() ?? [])];
  const processes = pids.map((pid) => {
    const [early, late] = [1, 3].map((quarter) => inQuarter(samples, pid, steps, quarter)) as [ProcessUsage[], ProcessUsage[]];
    const growth = (read: (usage: ProcessUsage) => number): { early: number; late: number } => ({
      early: median(early.map(read)),
      late: median(late.map(read)),
    });
    return {
      name: pid === coordinator ? 'coordinator' : `worker ${pids.indexOf(pid)}`,
      memoryBytes: growth(({ memoryBytes }) => memoryBytes),
      openFiles: growth(({ openFiles }) => openFiles),
    };
  });
  const stepMs = [1, 3].map((quarter) =>
    median(
      records.slice((quarter * steps) / 4, ((quarter + 1) * steps) / 4).map((step) => (1000 * batch) / step.imagesPerSecond),
    ),
  ) as [number, number];
  const tensors = new Set(records.slice(settled).map(({ liveTensors }) => liveTensors.join(' and ')));
  const machine = thisMachine();
  const result = { stepMs: { early: stepMs[0], late: stepMs[1] }, liveTensors: [...tensors], processes };
  if (flags.isJson) console.log(JSON.stringify({ machine, network, steps, ...result }));
  else {
    const rows = processes.flatMap(({ name, memoryBytes, openFiles }) => [
      [
        `${name}, MB`,
        ...[memoryBytes.early, memoryBytes.late].map((bytes) => (bytes / 1e6).toFixed(1)),
        percent(memoryBytes.late / memoryBytes.early - 1),
      ],
      [`${name}, open files`, String(openFiles.early), String(openFiles.late), String(openFiles.late - openFiles.early)],
    ]);
    rows.push(['a step, ms', ...stepMs.map(threeDigits), percent(stepMs[1] / stepMs[0] - 1)]);
    console.log(`${network}, ${steps} steps of ${batch} pictures, ${machineLine(machine)}\n`);
    console.log(textTable([['', 'second quarter', 'last quarter', 'change'], ...rows]));
    console.log(`\nlive tensors after a step, tower by tower: ${[...tensors].join(', then ')}`);
  }
  say('done');
  return exitCodes.done;
});
