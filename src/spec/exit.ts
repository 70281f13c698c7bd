// The last line of a command's life: its error on standard error, its code to the shell.

import { exitCodeOf, exitCodes } from './errors.ts';

/** Runs a command and leaves the process with its exit code. A bug shows its stack, anything else one sentence. */
export function exitWith(name: string, main: () => Promise<number>): void {
  // A reader that goes away (`| head`) is no reason to stop training.
  process.stdout.on('error', () => undefined);
  main().then(
    (code) => process.exit(code),
    (error: unknown) => {
      const code = exitCodeOf(error);
      const text = error instanceof Error ? (code === exitCodes.bug ? error.stack : error.message) : String(error);
      process.stderr.write(`${name}: ${text ?? ''}\n`);
      process.exit(code);
    },
  );
}
