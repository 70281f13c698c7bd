// `npm run bench:checkpoint`: what a checkpoint costs the steps beside which it is written.

import { readlinkSync } from 'node:fs';
import { join } from 'node:path';
import { UsageError, exitCodes } from '../src/spec/errors.ts';
import { networks, planNetwork } from '../src/spec/network.ts';
import { machineLine, parseBenchFlags, sayer, thisMachine, warnIfBusy } from './benchOptions.ts';
import { runCommand } from './command.ts';
import { crosstowerRound } from './crosstowerRound.ts';
import { mean } from './statistics.ts';
import { stepOfName } from '../src/coordinator/checkpoint.ts';
import { percent, textTable, threeDigits } from '../src/coordinator/textTable.ts';
import { atLeast, benchClasses, parseNetwork } from './throughputOptions.ts';

const help = `npm run bench:checkpoint -- [options]

Trains with a checkpoint every few steps, and compares the step that copies the state, and those beside which it is fetched and
written, with the steps between checkpoints; all are means. Which steps lie beside the writing is seen in the run: all that begin before
the checkpoint is whole, that is, before the link "last" points to it.

Options
  --network NAME   alexnet or compact (default: alexnet)
  --batch N        pictures a step (default: 128)
  --every N        steps from one checkpoint to the next (default: 80; compact: 200)
  --times N        checkpoints to measure (default: 3)
  --json           one JSON object on standard output
  --help           this text`;

const everyDefault = { alexnet: '80', compact: '200' } as const;
/** Fewer steps between checkpoints say little. */
const fewestBetween = 2;

await runCommand('checkpoint', async (keeper) => {
  const flags = parseBenchFlags(process.argv.slice(2), ['network', 'batch', 'every', 'times']);
  if (flags.isHelp) {
    console.log(help);
    return exitCodes.done;
  }
  const say = sayer('checkpoint');
  warnIfBusy(say);
  const network = parseNetwork(flags.network);
  const plan = planNetwork(networks[network], benchClasses[network]);
  const batch = atLeast(1, 'batch', flags.batch ?? '128');
  const every = atLeast(4, 'every', flags.every ?? everyDefault[network]);
  const times = atLeast(1, 'times', flags.times ?? '3');
  say(`${every * (times + 1)} steps of ${network}`);
  /** By its step, the steps that were done when a checkpoint was seen to be whole. */
  const wholeAfter = new Map<number, number>();
  const { stepMs } = await crosstowerRound(keeper, {
    network: plan.spec,
    classes: plan.classes,
    batch,
    // The first cycle is warm-up, and its end the first checkpoint, on fresh memory.
    warmup: every,
    steps: every * times,
    threads: 1,
    flags: ['--checkpoint-every', String(every)],
    watch: (runFolder, stepsDone) => {
      const last = lastCheckpoint(runFolder);
      if (last !== undefined && !wholeAfter.has(last)) wholeAfter.set(last, stepsDone);
    },
  });
  // The copy is made after the last step of each cycle, within the time of that step; the step that is under way when the checkpoint is seen
  // to be whole is the last one beside it.
  const cycles = Array.from({ length: times }, (_, cycle) => {
    const copiedAfter = every * (cycle + 1);
    const ms = stepMs.slice(every * cycle, every * (cycle + 1));
    const beside = Math.min(every - 1, (wholeAfter.get(copiedAfter) ?? Infinity) + 1 - copiedAfter);
    return { beside: ms.slice(0, beside), between: ms.slice(beside, -1), copying: ms.slice(-1) };
  });
  const all = (part: keyof (typeof cycles)[number]): readonly number[] => cycles.flatMap((cycle) => cycle[part]);
  if (all('between').length < fewestBetween * times)
    throw new UsageError(
      `--every ${every}: writing takes ${all('beside').length / times} steps; leave ${fewestBetween} more between checkpoints`,
    );
  const [between, copying, writing] = [mean(all('between')), mean(all('copying')), mean(all('beside'))];
  const beside = all('beside').length / times;
  const costMs = copying - between + beside * (writing - between);
  const machine = thisMachine();
  const result = {
    betweenMs: between,
    copyingMs: copying,
    writingMs: writing,
    besideSteps: beside,
    slowdownWhileCopying: copying / between - 1,
    slowdownWhileWriting: writing / between - 1,
    slowdownOverall: costMs / (every * between),
    costMs,
  };
  if (flags.isJson) console.log(JSON.stringify({ machine, network, batch, every, times, ...result }));
  else {
    const rows = [
      ['steps between checkpoints', threeDigits(between), ''],
      ['the step that copies the state', threeDigits(copying), percent(copying / between - 1)],
      [`the ${threeDigits(beside)} steps beside the writing`, threeDigits(writing), percent(writing / between - 1)],
      ['a checkpoint, in all', threeDigits(costMs), ''],
    ];
    console.log(`${network}, batch ${batch}, a checkpoint every ${every} steps, ${machineLine(machine)}\n`);
    console.log(textTable([['', 'ms', 'slower'], ...rows]));
  }
  return exitCodes.done;
});

/** The step of the newest whole checkpoint of a run. */
function lastCheckpoint(runFolder: string): number | undefined {
  try {
    return stepOfName(readlinkSync(join(runFolder, 'checkpoints/last')));
  } catch {
    return undefined;
  }
}
