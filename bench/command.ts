// What every benchmark command has around it: its processes end with it, signals end it at once, and an error is one sentence.

import { exitCodeOf, exitCodes } from '../src/spec/errors.ts';
import { ProcessKeeper } from './processKeeper.ts';

const signalExitCodes = { SIGINT: 130, SIGTERM: 143, SIGHUP: 129 } as const;

/** Runs a command to the end of this process. */
export async function runCommand(name: string, main: (keeper: ProcessKeeper) => Promise<number>): Promise<never> {
  const keeper = new ProcessKeeper();
  process.on('exit', () => {
    keeper.closeAll();
  });
  for (const [signal, code] of Object.entries(signalExitCodes)) process.on(signal, () => process.exit(code));
  try {
    process.exit(await main(keeper));
  } catch (error) {
    const code = exitCodeOf(error);
    const text = error instanceof Error ? (code === exitCodes.bug ? error.stack : error.message) : String(error);
    process.stderr.write(`${name}: ${text ?? ''}\n`);
    process.exit(code);
  }
}
