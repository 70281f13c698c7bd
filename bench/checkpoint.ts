// `npm run bench:checkpoint`: what a checkpoint costs the steps beside which it is written.

import { exitCodes } from '../src/spec/errors.ts';
import { networks, planNetwork } from '../src/spec/network.ts';
import { machineLine, parseBenchFlags, sayer, thisMachine, warnIfBusy } from './benchOptions.ts';
import { runCommand } from './command.ts';
import { crosstowerRound } from './crosstowerRound.ts';
import { mean, median } from './statistics.ts';
import { percent, textTable, threeDigits } from '../src/coordinator/textTable.ts';
import { atLeast, benchClasses, parseNetwork } from './throughputOptions.ts';

const help = `npm run bench:checkpoint -- [options]

Trains with a checkpoint every few steps, and compares the step that copies the state, and those beside which it is fetched and
written, with the steps between checkpoints.

Options
  --network NAME   alexnet or compact (default: alexnet)
  --batch N        pictures a step (default: 128)
  --every N        steps from one checkpoint to the next (default: 16; compact: 200)
  --beside N       steps after the copy that count as slowed down (default: 7; compact: 50)
  --times N        checkpoints to measure (default: 3)
  --json           one JSON object on standard output
  --help           this text`;

const defaults = { alexnet: { every: '16', beside: '7' }, compact: { every: '200', beside: '50' } } as const;

await runCommand('checkpoint', async (keeper) => {
  const flags = parseBenchFlags(process.argv.slice(2), ['network', 'batch', 'every', 'beside', 'times']);
  if (flags.isHelp) {
    console.log(help);
    return exitCodes.done;
  }
  const say = sayer('checkpoint');
  warnIfBusy(say);
  const network = parseNetwork(flags.network);
  const plan = planNetwork(networks[network], benchClasses[network]);
  const batch = atLeast(1, 'batch', flags.batch ?? '128');
  const every = atLeast(4, 'every', flags.every ?? defaults[network].every);
  const beside = Math.min(every - 2, atLeast(1, 'beside', flags.beside ?? defaults[network].beside));
  const times = atLeast(1, 'times', flags.times ?? '3');
  say(`${every * (times + 1)} steps of ${network}`);
  const { stepMs } = await crosstowerRound(keeper, {
    network: plan.spec,
    classes: plan.classes,
    batch,
    // The first cycle is warm-up, and its end the first checkpoint, on fresh memory.
    warmup: every,
    steps: every * times,
    threads: 1,
    flags: ['--checkpoint-every', String(every)],
  });
  // Measured step i (from 0) is step every + 1 + i of the run: the copy is made after the last of each cycle, within the time of that step.
  const place = stepMs.map((ms, i) => ({ ms, after: (i + 1) % every }));
  const between = median(place.filter(({ after }) => after > beside).map(({ ms }) => ms));
  const copying = mean(place.filter(({ after }) => after === 0).map(({ ms }) => ms));
  const writing = mean(place.filter(({ after }) => after >= 1 && after <= beside).map(({ ms }) => ms));
  const costMs = copying - between + beside * (writing - between);
  const machine = thisMachine();
  const result = {
    betweenMs: between,
    copyingMs: copying,
    writingMs: writing,
    slowdownWhileWriting: writing / between - 1,
    slowdownOverall: costMs / (every * between),
    costMs,
  };
  if (flags.isJson) console.log(JSON.stringify({ machine, network, batch, every, beside, times, ...result }));
  else {
    const rows = [
      ['steps between checkpoints', threeDigits(between), ''],
      ['the step that copies the state', threeDigits(copying), percent(copying / between - 1)],
      [`the ${beside} steps beside the writing`, threeDigits(writing), percent(writing / between - 1)],
      ['a checkpoint, in all', threeDigits(costMs), ''],
    ];
    console.log(`${network}, batch ${batch}, a checkpoint every ${every} steps, ${machineLine(machine)}\n`);
    console.log(textTable([['', 'ms', 'slower'], ...rows]));
  }
  return exitCodes.done;
});
