// What the coordinator says, sorted by kind, so that a step can wait for just what it needs next.
// Invariant: every wait ends: with the message, with the coordinator's word to stop, with a lost coordinator, or at its deadline.

import type { ExitCode } from '../spec/errors.ts';
import { CrosstowerError, PeerLostError, RefusedError, assertNever, exitCodes } from '../spec/errors.ts';
import type { Message, ToWorker } from '../protocol/messages.ts';
import type { WorkerSocket } from '../protocol/workerSocket.ts';

/** The coordinator has no more use for this worker: not a failure of ours. */
export class Dismissed extends Error {
  readonly exitCode: ExitCode;

  constructor(exitCode: ExitCode, reason: string) {
    super(reason);
    this.exitCode = exitCode;
  }
}

type Kind = ToWorker['type'];
export type Received<K extends Kind> = Message<Extract<ToWorker, { type: K }>>;

interface Waiter {
  readonly kinds: readonly Kind[];
  readonly resolve: (message: Message<ToWorker>) => void;
  readonly reject: (reason: Error) => void;
}

export class Inbox {
  readonly #queue: Message<ToWorker>[] = [];
  readonly #abort = new AbortController();
  #waiter: Waiter | undefined;
  /** Answers at once, whatever is being waited for. */
  #onBlockWanted: (header: Received<'sendBlock'>['header']) => void = () => undefined;
  #end: Error | undefined;

  /** `address` is the coordinator's, for messages. */
  constructor(socket: WorkerSocket, address: string) {
    void this.#listen(socket, address);
  }

  /** Aborted, with the reason, once nothing more will come. */
  get signal(): AbortSignal {
    return this.#abort.signal;
  }

  /** From now on `answer` is called for every block of a snapshot that is asked for. */
  answerBlocks(answer: (header: Received<'sendBlock'>['header']) => void): void {
    this.#onBlockWanted = answer;
  }

  /** Settles once nothing more will come. */
  get ended(): Promise<void> {
    const { signal } = this;
    if (signal.aborted) return Promise.resolve();
    return new Promise((resolve) => {
      signal.addEventListener(
        'abort',
        () => {
          resolve();
        },
        { once: true },
      );
    });
  }

  /** The next message of these kinds, earlier kinds first; the deadline's error says what was waited for. One wait at a time. */
  async take<K extends Kind>(
    kinds: readonly K[],
    deadline?: { readonly ms: number; readonly what: string },
  ): Promise<Received<K>> {
    const queued = this.takeNow(kinds);
    if (queued !== undefined) return queued;
    if (this.#end !== undefined) throw this.#end;
    let timer: NodeJS.Timeout | undefined;
    try {
      const message = await new Promise<Message<ToWorker>>((resolve, reject) => {
        this.#waiter = { kinds, resolve, reject };
        if (deadline !== undefined) {
          timer = setTimeout(() => {
            const seconds = (deadline.ms / 1000).toFixed(0);
            reject(new PeerLostError(`waited ${seconds} s for ${deadline.what}: is the coordinator stuck, or its link down?`));
          }, deadline.ms);
        }
      });
      return message as Received<K>;
    } finally {
      clearTimeout(timer);
      this.#waiter = undefined;
    }
  }

  /** As `take`, of what has arrived already. */
  takeNow<K extends Kind>(kinds: readonly K[]): Received<K> | undefined {
    for (const kind of kinds) {
      const at = this.#queue.findIndex((message) => message.header.type === kind);
      if (at >= 0) return this.#queue.splice(at, 1)[0] as Received<K>;
    }
    return undefined;
  }

  async #listen(socket: WorkerSocket, address: string): Promise<void> {
    for await (const event of socket.events) {
      switch (event.kind) {
        case 'message':
          this.#receive(event.message);
          break;
        case 'disconnected':
        case 'reconnected':
          this.#finish(new PeerLostError(`the connection to the coordinator at ${address} broke: what was under way is void`));
          break;
        case 'lost':
          this.#finish(event.error);
          break;
        default:
          assertNever(event);
      }
    }
    this.#finish(new PeerLostError('the link to the coordinator was closed'));
  }

  #receive(message: Message<ToWorker>): void {
    const { header } = message;
    if (header.type === 'stop') {
      this.#finish(new Dismissed(header.exitCode, header.reason));
    } else if (header.type === 'refuse') {
      this.#finish(refusal(header.exitCode, header.message));
    } else if (header.type === 'sendBlock') {
      this.#onBlockWanted(header);
    } else if (this.#waiter?.kinds.includes(header.type) === true) {
      this.#waiter.resolve(message);
      this.#waiter = undefined;
    } else {
      this.#queue.push(message);
    }
  }

  #finish(reason: Error): void {
    if (this.#end !== undefined) return;
    this.#end = reason;
    this.#waiter?.reject(reason);
    this.#abort.abort(reason);
  }
}

function refusal(exitCode: ExitCode, message: string): CrosstowerError {
  return exitCode === exitCodes.refused ? new RefusedError(message) : new CrosstowerError(exitCode, message);
}
