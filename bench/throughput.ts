// `npm run bench`: training steps a second of two workers, beside the machine's limit and other frameworks (throughputOptions.ts has the
// help). This file is the course of it: start what is kept, alternate the rounds, report.

import { availableParallelism } from 'node:os';
import { cacheFolder } from '../src/data/fashionMnist.ts';
import { exitCodes } from '../src/spec/errors.ts';
import { trainingMultiplyAdds } from '../src/spec/counts.ts';
import { networks, planNetwork } from '../src/spec/network.ts';
import { readSetup } from '../src/worker/environment.ts';
import { Ceiling } from './ceiling.ts';
import { runCommand } from './command.ts';
import { checkComparable, compareResults, differencesOfMachine, readBase } from './compareResults.ts';
import { crosstowerRound } from './crosstowerRound.ts';
import { busyWarning, describeMachine } from './machine.ts';
import { Peer } from './peer.ts';
import type { ProcessKeeper } from './processKeeper.ts';
import { median } from './statistics.ts';
import { summarise } from './summary.ts';
import type { Round } from './summary.ts';
import { comparisonReport, throughputReport } from './throughputReport.ts';
import { benchClasses, parseThroughputOptions, throughputHelp } from './throughputOptions.ts';
import type { ThroughputOptions } from './throughputOptions.ts';

function say(line: string): void {
  process.stderr.write(`bench: ${line}\n`);
}

async function measure(keeper: ProcessKeeper, options: ThroughputOptions): Promise<void> {
  const { network, batch, threads, warmup, steps, flags } = options;
  const base = options.compare === undefined ? undefined : readBase(options.compare);
  if (base !== undefined) checkComparable(base, options);
  const setup = readSetup();
  const warning = busyWarning();
  if (warning !== undefined) say(warning);

  const peers: Peer[] = [];
  for (const framework of options.peers) {
    const cores = availableParallelism();
    const shared = { network, batch, warmup, threads: cores, setup, cacheFolder: cacheFolder(process.env), say };
    peers.push(...(await Peer.startAll(keeper, framework, shared)));
  }
  const ceiling = await Ceiling.start(keeper, { threads, setup });
  const plan = planNetwork(networks[network], benchClasses[network]);
  const crosstower = { network: plan.spec, classes: plan.classes, batch, steps, warmup, threads, flags };

  const rounds: Round[] = [];
  for (let i = 0; i < options.rounds; i++) {
    const title = `round ${i + 1} of ${options.rounds}`;
    const tell = (name: string, stepMs: readonly number[]): void => {
      say(`${title}: ${name} ${((1000 * batch) / median(stepMs)).toFixed(1)} images/s`);
    };
    const runPeers = async (inOrder: readonly Peer[]): Promise<Round['peers']> => {
      const times: Partial<Record<Peer['name'], readonly number[]>> = {};
      for (const peer of inOrder) {
        const stepMs = await peer.run(steps);
        times[peer.name] = stepMs;
        tell(peer.name, stepMs);
      }
      return times;
    };
    const runCrosstower = async (): Promise<Round['crosstower']> => {
      const round = await crosstowerRound(keeper, crosstower);
      tell('crosstower', round.stepMs);
      return round;
    };
    // Every other round runs backwards, so that a machine that slows down steadily favours nobody.
    const isForward = i % 2 === 0;
    const before = isForward ? undefined : await runPeers(peers.toReversed());
    const own = isForward ? await runCrosstower() : undefined;
    const ceilingFlops = await ceiling.measure();
    rounds.push({
      crosstower: own ?? (await runCrosstower()),
      ceilingFlops,
      peers: before ?? (await runPeers(peers)),
    });
  }

  const machine = describeMachine(ceiling.tensorflow, setup);
  const flopsPerImage = 2 * trainingMultiplyAdds(plan);
  const about = Object.fromEntries(peers.map((peer) => [peer.name, peer.about]));
  const result = summarise(rounds, { machine, network, batch, threads, warmup, steps, flags, flopsPerImage, peers: about });
  const comparison = base === undefined ? undefined : compareResults(base, result);
  const otherMachine = base === undefined ? undefined : differencesOfMachine(base, result);
  if (otherMachine !== undefined) say(otherMachine);
  if (options.json) {
    console.log(JSON.stringify({ ...result, ...(comparison === undefined ? {} : { comparison }) }));
    return;
  }
  console.log(throughputReport(result));
  if (comparison !== undefined) console.log(`\n${comparisonReport(comparison, options.compare ?? '')}`);
}

await runCommand('bench', async (keeper) => {
  const options = parseThroughputOptions(process.argv.slice(2));
  if (options === 'help') console.log(throughputHelp);
  else await measure(keeper, options);
  return exitCodes.done;
});
