// A process that is kept over all rounds and works on command: a line in, a JSON line out; it ends with its standard input.

import { createInterface } from 'node:readline';
import { CrosstowerError, exitCodes } from '../src/spec/errors.ts';
import type { Kept, ProcessKeeper } from './processKeeper.ts';

/** Far beyond the slowest round of the slowest peer. */
const answerDeadlineMs = 30 * 60_000;
const keptErrorCharacters = 4000;

export class LineProcess {
  readonly name: string;
  readonly #keeper: ProcessKeeper;
  readonly #kept: Kept;
  #errors = '';
  #waiting: { readonly resolve: (answer: unknown) => void; readonly reject: (reason: Error) => void } | undefined;
  #failure: Error | undefined;

  constructor(
    keeper: ProcessKeeper,
    options: { name: string; command: string; args: readonly string[]; environment: NodeJS.ProcessEnv },
  ) {
    this.name = options.name;
    this.#keeper = keeper;
    this.#kept = keeper.spawn(options.command, options.args, { env: options.environment, stdio: 'pipe' });
    const { stdin, stdout, stderr } = this.#kept.child;
    if (stdin === null || stdout === null || stderr === null) throw new Error(`${this.name} was started without pipes`);
    stdin.on('error', () => undefined); // Its end is told by `ended`.
    stderr.setEncoding('utf8').on('data', (text: string) => {
      this.#errors = (this.#errors + text).slice(-keptErrorCharacters);
    });
    createInterface({ input: stdout }).on('line', (line) => {
      if (line.startsWith('{')) this.#take(line);
    });
    void this.#kept.ended.then((how) => {
      const said = this.#errors.trim();
      this.#fail(
        new CrosstowerError(exitCodes.peerLost, `${this.name} ended (${how})${said === '' ? '' : `; it said:\n${said}`}`),
      );
    });
  }

  /** Waits for the next JSON line, after sending a command if there is one; one at a time. Throws what the process said when it ended. */
  ask(command?: string): Promise<unknown> {
    if (this.#waiting !== undefined) throw new Error(`${this.name} has not answered the last command yet`);
    if (this.#failure !== undefined) return Promise.reject(this.#failure);
    if (command !== undefined) this.#kept.child.stdin?.write(`${command}\n`);
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#fail(
          new CrosstowerError(exitCodes.peerLost, `${this.name} did not answer within ${answerDeadlineMs / 60_000} minutes`),
        );
      }, answerDeadlineMs);
      const settle = <T>(how: (value: T) => void) => {
        return (value: T): void => {
          clearTimeout(timer);
          this.#waiting = undefined;
          how(value);
        };
      };
      this.#waiting = { resolve: settle(resolve), reject: settle(reject) };
    });
  }

  close(): Promise<void> {
    return this.#keeper.kill(this.#kept);
  }

  #take(line: string): void {
    try {
      this.#waiting?.resolve(JSON.parse(line));
    } catch (error) {
      this.#fail(
        new CrosstowerError(exitCodes.peerLost, `${this.name} printed a line that is not JSON: ${line}`, { cause: error }),
      );
    }
  }

  #fail(reason: Error): void {
    this.#failure ??= reason;
    this.#waiting?.reject(this.#failure);
  }
}
