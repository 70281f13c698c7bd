// `npm run bench:scaling`: what the second core brings: two workers of one thread beside both towers in one process on one thread, by batch;
// and what it could bring: two such processes at once, each in a run of its own, which share nothing but the machine.

import { exitCodes } from '../src/spec/errors.ts';
import { networks, planNetwork } from '../src/spec/network.ts';
import { machineLine, numberList, parseBenchFlags, sayer, thisMachine, warnIfBusy } from './benchOptions.ts';
import { runCommand } from './command.ts';
import { crosstowerRound } from './crosstowerRound.ts';
import { median, pairedRatio } from './statistics.ts';
import { textTable, threeDigits } from '../src/coordinator/textTable.ts';
import { atLeast, benchClasses, parseNetwork } from './throughputOptions.ts';

const help = `npm run bench:scaling -- [options]

Training steps of two workers of one thread each, of both towers in one process on one thread (--one-process), and of two such runs
at once, in turns, for each size of the batch. The first ratio would be the second one if crossings, sync and waiting cost nothing;
what the second one lacks to 2 is the machine's: memory, caches and clocks that two cores share.

Options
  --network NAME   alexnet or compact (default: alexnet)
  --batches N,N    pictures a step (default: 16,32,64,128,256)
  --rounds N       rounds (default: 1)
  --steps N        measured steps (default: 6; compact: 100)
  --warmup N       steps before (default: 10; compact: 50)
  --json           one JSON object on standard output
  --help           this text`;

const defaults = { alexnet: { steps: '6', warmup: '10' }, compact: { steps: '100', warmup: '50' } } as const;
/** What a round measures: the flags of each run; runs of one way go at once. */
const ways = { twoWorkers: [[]], oneProcess: [['--one-process']], twoRuns: [['--one-process'], ['--one-process']] } as const;
type Way = keyof typeof ways;
const wayNames: Readonly<Record<Way, string>> = {
  twoWorkers: 'two workers',
  oneProcess: 'one process',
  twoRuns: 'two runs at once',
};

await runCommand('scaling', async (keeper) => {
  const flags = parseBenchFlags(process.argv.slice(2), ['network', 'batches', 'rounds', 'steps', 'warmup']);
  if (flags.isHelp) {
    console.log(help);
    return exitCodes.done;
  }
  const say = sayer('scaling');
  warnIfBusy(say);
  const network = parseNetwork(flags.network);
  const plan = planNetwork(networks[network], benchClasses[network]);
  const steps = atLeast(2, 'steps', flags.steps ?? defaults[network].steps);
  const warmup = atLeast(1, 'warmup', flags.warmup ?? defaults[network].warmup);
  const rounds = atLeast(1, 'rounds', flags.rounds ?? '1');
  const results = [];
  for (const batch of numberList('batches', flags.batches ?? '16,32,64,128,256')) {
    const speeds: Record<Way, number[]> = { twoWorkers: [], oneProcess: [], twoRuns: [] };
    const peaks: number[] = [];
    for (let i = 0; i < rounds; i++) {
      for (const way of ['twoWorkers', 'oneProcess', 'twoRuns'] as const) {
        const options = { network: plan.spec, classes: plan.classes, batch, steps, warmup, threads: 1 };
        const runs = await Promise.all(ways[way].map((own) => crosstowerRound(keeper, { ...options, flags: own })));
        const speed = runs.reduce((sum, { stepMs }) => sum + (1000 * batch) / median(stepMs), 0);
        speeds[way].push(speed);
        if (way === 'twoWorkers') peaks.push(...runs.flatMap(({ peakMemoryBytes }) => peakMemoryBytes ?? []));
        say(`batch ${String(batch)}, ${wayNames[way]}: ${threeDigits(speed)} images/s`);
      }
    }
    results.push({
      batch,
      twoWorkers: median(speeds.twoWorkers),
      oneProcess: median(speeds.oneProcess),
      twoRuns: median(speeds.twoRuns),
      ratio: pairedRatio(speeds.twoWorkers, speeds.oneProcess),
      ceiling: pairedRatio(speeds.twoRuns, speeds.oneProcess),
      peakMemoryBytes: peaks.length === 0 ? undefined : Math.max(...peaks),
    });
  }
  const machine = thisMachine();
  if (flags.isJson) console.log(JSON.stringify({ machine, network, steps, warmup, rounds, results }));
  else {
    const rows = results.map(({ batch, twoWorkers, oneProcess, ratio, ceiling, peakMemoryBytes }) => [
      String(batch),
      threeDigits(twoWorkers),
      threeDigits(oneProcess),
      ratio.toFixed(2),
      ceiling.toFixed(2),
      peakMemoryBytes === undefined ? '' : (peakMemoryBytes / 1e9).toFixed(2),
    ]);
    const head = ['batch', 'two workers, images/s', 'one process', 'ratio', 'two runs at once', 'GB in the larger worker'];
    console.log(`${network}, ${machineLine(machine)}\n\n${textTable([head, ...rows])}`);
  }
  return exitCodes.done;
});
