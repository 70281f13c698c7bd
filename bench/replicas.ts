// `npm run bench:replicas`: steps of 1, 2 and 3 pairs of towers over the same batch on this machine, beside what `coordinator plan`'s model
// makes of them (docs/replicas.md). All pairs share the machine's cores, so that more of them cannot be faster: what is tested is the model.
// Two models are shown: the plan's, whose efficiency is taken from one pair on the whole batch, and one that takes the time of one pair on a
// shard as measured, and lets the pairs take turns on the cores.

import { availableParallelism } from 'node:os';
import { exitCodes } from '../src/spec/errors.ts';
import { networks, planNetwork } from '../src/spec/network.ts';
import type { NetworkName } from '../src/spec/network.ts';
import { predictStep, stepCost } from '../src/spec/plan.ts';
import { crosstowerRound } from './crosstowerRound.ts';
import type { CrosstowerRound } from './crosstowerRound.ts';
import { runCommand } from './command.ts';
import type { ProcessKeeper } from './processKeeper.ts';
import { median } from './statistics.ts';
import { textTable, threeDigits } from '../src/coordinator/textTable.ts';

const classes = 10;
const warmup = 15;
/** Bytes a second of one ZeroMQ link on the loopback interface (docs/performance.md). */
const linkSpeed = 2e9;

const plans: readonly { readonly network: NetworkName; readonly batch: number; readonly steps: number }[] = [
  { network: 'tiny', batch: 96, steps: 60 },
  { network: 'compact', batch: 96, steps: 40 },
];
const replicaCounts = [1, 2, 3];

async function measure(
  keeper: ProcessKeeper,
  { network, batch, steps }: (typeof plans)[number],
  replicas: number,
): Promise<CrosstowerRound> {
  const flags = ['--replicas', String(replicas)];
  process.stderr.write(`replicas: ${network}, batch ${batch}, replicas ${replicas}\n`);
  return crosstowerRound(keeper, { network: networks[network], classes, batch, steps, warmup, threads: 1, flags });
}

function stepMs(round: CrosstowerRound): number {
  return median(round.stepMs);
}

/** What a tower waits for the sums and the decision. */
function syncMs(round: CrosstowerRound): number {
  return median(round.parts.map((parts) => Math.max(...parts.map(({ sync }) => sync))));
}

await runCommand('replicas', async (keeper) => {
  const rows = [['network', 'replicas', 'measured ms', 'plan ms', 'off', 'turns ms', 'off', 'sync ms', 'ring MB']];
  for (const each of plans) {
    const plan = planNetwork(networks[each.network], classes);
    const cores = availableParallelism();
    let wholeMs = 0;
    for (const replicas of replicaCounts) {
      const round = await measure(keeper, each, replicas);
      const measured = stepMs(round);
      if (replicas === 1) wholeMs = measured;
      const shard = { ...each, batch: Math.ceil(each.batch / replicas) };
      const alone = replicas === 1 ? measured : stepMs(await measure(keeper, shard, 1));
      // Work and time of one pair give the speed of two cores; 2 R workers have 1 / R of it each.
      const machineFlops = stepCost(plan, each.batch).trainingFlops / (wholeMs / 1000);
      const machine = { deviceFlops: machineFlops / 2 / replicas, efficiency: 1, linkSpeed, replicas };
      const { compute, sync } = predictStep(plan, each.batch, machine);
      const planned = 1000 * (compute + sync);
      const turns = replicas * alone + 1000 * sync;
      const off = (model: number): string => `${(100 * (model / measured - 1)).toFixed(0)}%`;
      const ringMegabytes = (sync * linkSpeed * 2 * replicas) / 1e6;
      rows.push([
        ...[each.network, String(replicas), threeDigits(measured)],
        ...[threeDigits(planned), off(planned), threeDigits(turns), off(turns)],
        ...[threeDigits(syncMs(round)), threeDigits(ringMegabytes)],
      ]);
    }
    process.stderr.write(`replicas: ${each.network} on ${cores} cores\n`);
  }
  console.log(textTable(rows));
  return exitCodes.done;
});
