// `npm run bench:scaling`: what the second core brings: two workers of one thread beside both towers in one process on one thread, by batch.

import { exitCodes } from '../src/spec/errors.ts';
import { networks, planNetwork } from '../src/spec/network.ts';
import { machineLine, numberList, parseBenchFlags, sayer, thisMachine, warnIfBusy } from './benchOptions.ts';
import { runCommand } from './command.ts';
import { crosstowerRound } from './crosstowerRound.ts';
import { median, pairedRatio } from './statistics.ts';
import { textTable, threeDigits } from '../src/coordinator/textTable.ts';
import { atLeast, benchClasses, parseNetwork } from './throughputOptions.ts';

const help = `npm run bench:scaling -- [options]

Training steps of two workers of one thread each, and of both towers in one process on one thread (--one-process), in turns, for each
size of the batch. The ratio would be 2 if crossings, sync and the coordinator cost nothing.

Options
  --network NAME   alexnet or compact (default: alexnet)
  --batches N,N    pictures a step (default: 16,32,64,128,256)
  --rounds N       rounds (default: 1)
  --steps N        measured steps (default: 6; compact: 100)
  --warmup N       steps before (default: 10; compact: 50)
  --json           one JSON object on standard output
  --help           this text`;

const defaults = { alexnet: { steps: '6', warmup: '10' }, compact: { steps: '100', warmup: '50' } } as const;
const ways = { two: [], one: ['--one-process'] } as const;

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
    const speeds: Record<keyof typeof ways, number[]> = { two: [], one: [] };
    const peaks: number[] = [];
    for (let i = 0; i < rounds; i++) {
      for (const way of ['two', 'one'] as const) {
        const options = { network: plan.spec, classes: plan.classes, batch, steps, warmup, threads: 1, flags: ways[way] };
        const { stepMs, peakMemoryBytes } = await crosstowerRound(keeper, options);
        const speed = (1000 * batch) / median(stepMs);
        speeds[way].push(speed);
        if (way === 'two' && peakMemoryBytes !== undefined) peaks.push(peakMemoryBytes);
        say(`batch ${batch}, ${way === 'two' ? 'two workers' : 'one process'}: ${threeDigits(speed)} images/s`);
      }
    }
    results.push({
      batch,
      twoWorkers: median(speeds.two),
      oneProcess: median(speeds.one),
      ratio: pairedRatio(speeds.two, speeds.one),
      peakMemoryBytes: peaks.length === 0 ? undefined : Math.max(...peaks),
    });
  }
  const machine = thisMachine();
  if (flags.isJson) console.log(JSON.stringify({ machine, network, steps, warmup, rounds, results }));
  else {
    const rows = results.map(({ batch, twoWorkers, oneProcess, ratio, peakMemoryBytes }) => [
      String(batch),
      threeDigits(twoWorkers),
      threeDigits(oneProcess),
      ratio.toFixed(2),
      peakMemoryBytes === undefined ? '' : (peakMemoryBytes / 1e9).toFixed(2),
    ]);
    const head = ['batch', 'two workers, images/s', 'one process', 'ratio', 'GB in the larger worker'];
    console.log(`${network}, ${machineLine(machine)}\n\n${textTable([head, ...rows])}`);
  }
  return exitCodes.done;
});
