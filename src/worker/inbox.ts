// What the coordinator says, sorted by kind, so that a step can wait for just what it needs next.
// Invariant: every wait ends: with the message, with the end of the generation or of the run, or at its deadline. What has come for one
// generation is not there in the next.

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

interface Deadline {
  readonly ms: number;
  readonly what: string;
}

interface Waiter {
  readonly kinds: readonly Kind[];
  readonly resolve: (message: Message<ToWorker>) => void;
  readonly reject: (reason: Error) => void;
  readonly timer: NodeJS.Timeout | undefined;
}

export interface InboxOptions {
  /** The coordinator's, for messages. */
  readonly address: string;
  /** The coordinator cannot be reached any more, or, for this reason, is to be asked for a place anew. */
  readonly onDisconnect: (reason?: string) => void;
  /** It, or another one, can be reached again. */
  readonly onReconnect: () => void;
}

export class Inbox {
  readonly #options: InboxOptions;
  #queue: Message<ToWorker>[] = [];
  #generation = new AbortController();
  #waiter: Waiter | undefined;
  /** Answers at once, whatever is being waited for. */
  #onBlockWanted: (header: Received<'sendBlock'>['header']) => void = () => undefined;
  #end: Error | undefined;
  #isConnected = true;

  constructor(socket: WorkerSocket, options: InboxOptions) {
    this.#options = options;
    void this.#listen(socket);
  }

  /** Aborted, with the reason, once nothing more will come in this generation. */
  get signal(): AbortSignal {
    return this.#generation.signal;
  }

  get isConnected(): boolean {
    return this.#isConnected;
  }

  /** Why nothing more will come in any generation. */
  get end(): Error | undefined {
    return this.#end;
  }

  /** The next assignment, which has begun a generation. */
  async takeAssignment(deadline: Deadline): Promise<Received<'assign'>> {
    const queued = this.takeNow(['assign']);
    if (queued !== undefined) return queued;
    if (this.#end !== undefined) throw this.#end;
    return this.#wait(['assign'], deadline);
  }

  /** From now on `answer` is called for every block of a snapshot that is asked for. */
  answerBlocks(answer: (header: Received<'sendBlock'>['header']) => void): void {
    this.#onBlockWanted = answer;
  }

  /** The next message of these kinds, earlier kinds first; the deadline's error says what was waited for. One wait at a time. */
  async take<K extends Kind>(kinds: readonly K[], deadline?: Deadline): Promise<Received<K>> {
    const queued = this.takeNow(kinds);
    if (queued !== undefined) return queued;
    if (this.signal.aborted) throw this.signal.reason;
    return this.#wait(kinds, deadline);
  }

  /** As `take`, of what has arrived already. */
  takeNow<K extends Kind>(kinds: readonly K[]): Received<K> | undefined {
    for (const kind of kinds) {
      const at = this.#queue.findIndex((message) => message.header.type === kind);
      if (at >= 0) return this.#queue.splice(at, 1)[0] as Received<K>;
    }
    return undefined;
  }

  async #wait<K extends Kind>(kinds: readonly K[], deadline: Deadline | undefined): Promise<Received<K>> {
    let timer: NodeJS.Timeout | undefined;
    try {
      const message = await new Promise<Message<ToWorker>>((resolve, reject) => {
        if (deadline !== undefined) {
          timer = setTimeout(() => {
            const seconds = (deadline.ms / 1000).toFixed(0);
            reject(new PeerLostError(`waited ${seconds} s for ${deadline.what}: is the coordinator stuck, or its link down?`));
          }, deadline.ms);
        }
        this.#waiter = { kinds, resolve, reject, timer };
      });
      return message as Received<K>;
    } finally {
      clearTimeout(timer);
      this.#waiter = undefined;
    }
  }

  /** Nothing more will come: every wait ends, now and later, with the first reason. */
  finish(reason: Error): void {
    if (this.#end !== undefined) return;
    this.#end = reason;
    this.#endGeneration(reason);
  }

  async #listen(socket: WorkerSocket): Promise<void> {
    const { address, onDisconnect, onReconnect } = this.#options;
    for await (const event of socket.events) {
      switch (event.kind) {
        case 'message':
          this.#receive(event.message);
          break;
        case 'disconnected':
          this.#isConnected = false;
          this.#endGeneration(new PeerLostError(event.reason ?? `the connection to the coordinator at ${address} broke`));
          // Whoever waits for an assignment goes on; if nobody comes, the socket says so first, and names the address.
          this.#waiter?.timer?.refresh();
          onDisconnect(event.reason);
          break;
        case 'reconnected':
          this.#isConnected = true;
          // From now on the coordinator is waited for, no longer the network.
          this.#waiter?.timer?.refresh();
          onReconnect();
          break;
        case 'lost':
          this.finish(event.error);
          break;
        default:
          assertNever(event);
      }
    }
    this.finish(new PeerLostError('the link to the coordinator was closed'));
  }

  #receive(message: Message<ToWorker>): void {
    const { header } = message;
    if (header.type === 'assign') {
      this.#endGeneration(new PeerLostError('the coordinator has begun another generation'));
      this.#generation = new AbortController();
    }
    if (header.type === 'stop') {
      this.finish(new Dismissed(header.exitCode, header.reason));
    } else if (header.type === 'refuse') {
      this.finish(refusal(header.exitCode, header.message));
    } else if (header.type === 'sendBlock') {
      this.#onBlockWanted(header);
      // It fetches a snapshot, and is neither stuck nor away.
      this.#waiter?.timer?.refresh();
    } else if (this.#waiter?.kinds.includes(header.type) === true) {
      this.#waiter.resolve(message);
      this.#waiter = undefined;
    } else {
      this.#queue.push(message);
    }
  }

  /** What is under way is void, and so is what has come for it. Whoever waits for an assignment goes on waiting. */
  #endGeneration(reason: Error): void {
    this.#queue = [];
    this.#onBlockWanted = () => undefined;
    if (this.#end === undefined && this.#waiter?.kinds.includes('assign') === true) return;
    this.#waiter?.reject(reason);
    this.#waiter = undefined;
    this.#generation.abort(reason);
  }
}

function refusal(exitCode: ExitCode, message: string): CrosstowerError {
  return exitCode === exitCodes.refused ? new RefusedError(message) : new CrosstowerError(exitCode, message);
}
