#!/usr/bin/env node
// The `coordinator` command: the one place of this process where arguments, environment, signals and clocks come in.

import { performance } from 'node:perf_hooks';
import yargs from 'yargs';
import { hideBin } from 'yargs/helpers';
import { UsageError } from '../spec/errors.ts';
import { exitWith } from '../spec/exit.ts';
import { packageVersion } from '../spec/packageRoot.ts';
import { stopOnSignals } from '../spec/stopSignals.ts';
import { standardInput } from './command.ts';
import type { Command, CommandContext } from './command.ts';
import { ablate } from './commands/ablate.ts';
import { evaluate } from './commands/eval.ts';
import { exportModel } from './commands/export.ts';
import { importModel } from './commands/import.ts';
import { keygen } from './commands/keygen.ts';
import { plan } from './commands/plan.ts';
import { predict } from './commands/predict.ts';
import { prepare } from './commands/prepare.ts';
import { start } from './commands/start.ts';

const commands: readonly Command[] = [start, prepare, evaluate, predict, exportModel, importModel, plan, ablate, keygen];

const now = (): number => performance.now();

const context: CommandContext = {
  output: process.stdout,
  errors: process.stderr,
  input: process.stdin,
  now,
  packageVersion: packageVersion(),
  takeSignals: (say) => stopOnSignals(say, now),
};

async function main(): Promise<number> {
  let run: (() => Promise<number>) | undefined;
  // yargs loses a dash that stands alone among pictures.
  const words = hideBin(process.argv).map((word) => (word === '-' ? standardInput : word));
  const parser = yargs(words)
    .scriptName('coordinator')
    .usage('$0 <command>\n\nOwns the data and the course of a run; workers compute.')
    .demandCommand(1, 'name a command, such as `coordinator start`')
    .version(context.packageVersion)
    .strict()
    // A picture may be called 007.
    .parserConfiguration({ 'parse-positional-numbers': false })
    .wrap(120)
    .fail((message, error: unknown) => {
      // yargs spreads some of its sentences over lines.
      throw new UsageError(`${(message || String(error)).replace(/\s*\n\s*/g, ' ')}; see coordinator --help`);
    });
  for (const { name, describe, flags, examples, epilogue, run: runCommand } of commands) {
    parser.command(
      name,
      describe,
      (command) => {
        for (const [line, purpose] of examples) command.example(`$0 ${line}`, purpose);
        return command.options(flags).epilogue(epilogue ?? '');
      },
      (argv) => {
        run = () => runCommand(argv, context);
      },
    );
  }
  parser.parseSync();
  return (await run?.()) ?? 0;
}

exitWith('coordinator', main);
