// `npm run bench`: training steps a second of two workers, beside the machine's limit and other frameworks (throughputOptions.ts has the
// help). This file is the course of it: start what is kept, alternate the rounds, report.

import { availableParallelism } from 'node:os';
import { cacheFolder } from '../src/data/fashionMnist.ts';
import { exitCodeOf, exitCodes } from '../src/spec/errors.ts';
import { networks, planNetwork, trainingMultiplyAdds } from '../src/spec/network.ts';
import { readSetup } from '../src/worker/environment.ts';
import { Ceiling } from './ceiling.ts';
import { checkComparable, compareResults, differencesOfMachine, readBase } from './compareResults.ts';
import { crosstowerRound } from './crosstowerRound.ts';
import { describeMachine } from './machine.ts';
import { Peer } from './peer.ts';
import { ProcessKeeper } from './processKeeper.ts';
import { median } from './statistics.ts';
import { summarise } from './summary.ts';
import type { Round } from './summary.ts';
import { comparisonReport, throughputReport } from './throughputReport.ts';
import { parseThroughputOptions, throughputHelp } from './throughputOptions.ts';
import type { ThroughputOptions } from './throughputOptions.ts';

const classesOf = { alexnet: 1000, compact: 10 } as const;
const signalExitCodes = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;

function say(line: string): void {
  process.stderr.write(`bench: ${line}\n`);
}

async function measure(keeper: ProcessKeeper, options: ThroughputOptions): Promise<void> {
  const { network, batch, threads, warmup, steps, flags } = options;
  const base = options.compare === undefined ? undefined : readBase(options.compare);
  if (base !== undefined) checkComparable(base, options);
  const setup = readSetup();

  const peers: Peer[] = [];
  for (const framework of options.peers) {
    const cores = availableParallelism();
    const shared = { network, batch, warmup, threads: cores, setup, cacheFolder: cacheFolder(process.env), say };
    peers.push(...(await Peer.startAll(keeper, framework, shared)));
  }
  const ceiling = await Ceiling.start(keeper, { threads, setup });
  const plan = planNetwork(networks[network], classesOf[network]);
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

async function main(): Promise<number> {
  const options = parseThroughputOptions(process.argv.slice(2));
  if (options === 'help') {
    console.log(throughputHelp);
    return exitCodes.done;
  }
  const keeper = new ProcessKeeper();
  process.on('exit', () => {
    keeper.closeAll();
  });
  for (const [signal, code] of Object.entries(signalExitCodes)) process.on(signal, () => process.exit(code));
  await measure(keeper, options);
  return exitCodes.done;
}

main().then(
  (code) => process.exit(code),
  (error: unknown) => {
    const code = exitCodeOf(error);
    const text = error instanceof Error ? (code === exitCodes.bug ? error.stack : error.message) : String(error);
    process.stderr.write(`bench: ${text ?? ''}\n`);
    process.exit(code);
  },
);
