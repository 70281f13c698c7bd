// `npm run bench:startup`: from the command to the first step, by what has to happen on the way.

import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { CrosstowerError, exitCodes } from '../src/spec/errors.ts';
import { networks, planNetwork } from '../src/spec/network.ts';
import { machineLine, parseBenchFlags, sayer, thisMachine, warnIfBusy } from './benchOptions.ts';
import { runCommand } from './command.ts';
import { coordinatorArguments, coordinatorCommand, readSteps } from './crosstowerRound.ts';
import type { ProcessKeeper } from './processKeeper.ts';
import { distribution } from './statistics.ts';
import { textTable } from '../src/coordinator/textTable.ts';
import { atLeast, benchClasses, parseNetwork } from './throughputOptions.ts';
import type { BenchNetwork } from './throughputOptions.ts';

const help = `npm run bench:startup -- [options]

Starts \`coordinator start --local cpu\` anew several times, and says how long it takes until it listens, until both workers are there, until
the first step begins, and until it has been taken (on fresh memory, it is slower than those that follow).

Options
  --network NAME   alexnet or compact (default: alexnet)
  --batch N        pictures a step (default: 128)
  --rounds N       starts (default: 5)
  --json           one JSON object on standard output
  --help           this text`;

const marks = ['listening', 'workersThere', 'firstStepBegins', 'firstStepDone'] as const;
const titles: Readonly<Record<(typeof marks)[number], string>> = {
  listening: 'the coordinator listens',
  workersThere: 'both workers are there',
  firstStepBegins: 'the first step begins',
  firstStepDone: 'the first step is done',
};

/** Milliseconds from the command to each mark. */
type Start = Readonly<Record<(typeof marks)[number], number>>;

async function startOnce(keeper: ProcessKeeper, network: BenchNetwork, batch: number): Promise<Start> {
  const plan = planNetwork(networks[network], benchClasses[network]);
  const options = { network: plan.spec, classes: plan.classes, batch, steps: 1, warmup: 0, threads: 1, flags: ['--steps', '1'] };
  const runFolder = join(keeper.temporaryFolder(), 'run');
  const startMs = performance.now();
  const run = keeper.spawn(process.execPath, [coordinatorCommand, ...coordinatorArguments(options, runFolder)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  });
  const at: { listening?: number; workersThere?: number; firstStepDone?: number } = {};
  const { stdout } = run.child;
  if (stdout === null) throw new Error('the run has no standard output');
  for await (const line of createInterface({ input: stdout })) {
    const ms = performance.now() - startMs;
    if (line.includes('listening at')) at.listening = ms;
    else if (/^tower [01]: /.test(line)) at.workersThere = ms;
    else if (line.includes('step 1/1')) at.firstStepDone = ms;
  }
  const how = await run.ended;
  const [first] = readSteps(join(runFolder, 'metrics.jsonl'));
  const { listening, workersThere, firstStepDone } = at;
  if (first === undefined || listening === undefined || workersThere === undefined || firstStepDone === undefined)
    throw new CrosstowerError(exitCodes.peerLost, `coordinator start did not come to its first step (${how})`);
  return { listening, workersThere, firstStepBegins: firstStepDone - (1000 * batch) / first.imagesPerSecond, firstStepDone };
}

await runCommand('startup', async (keeper) => {
  const flags = parseBenchFlags(process.argv.slice(2), ['network', 'batch', 'rounds']);
  if (flags.isHelp) {
    console.log(help);
    return exitCodes.done;
  }
  const say = sayer('startup');
  warnIfBusy(say);
  const network = parseNetwork(flags.network);
  const batch = atLeast(1, 'batch', flags.batch ?? '128');
  const starts: Start[] = [];
  for (let i = 0; i < atLeast(1, 'rounds', flags.rounds ?? '5'); i++) {
    const start = await startOnce(keeper, network, batch);
    say(`start ${i + 1}: ${(start.firstStepDone / 1000).toFixed(1)} s to the end of the first step`);
    starts.push(start);
  }
  const machine = thisMachine();
  const results = Object.fromEntries(marks.map((mark) => [mark, distribution(starts.map((start) => start[mark]))]));
  if (flags.isJson) console.log(JSON.stringify({ machine, network, batch, starts: starts.length, ms: results }));
  else {
    const rows = marks.map((mark) => {
      const { median, p10, p90 } = results[mark] ?? { median: NaN, p10: NaN, p90: NaN };
      const seconds = (ms: number): string => (ms / 1000).toFixed(2);
      return [titles[mark], seconds(median), `${seconds(p10)}..${seconds(p90)}`];
    });
    console.log(`${network}, batch ${batch}, ${machineLine(machine)}\n\n${textTable([['', 's, median', 'p10..p90'], ...rows])}`);
  }
  return exitCodes.done;
});
