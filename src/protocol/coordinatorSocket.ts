// The coordinator's end of the control links: one ROUTER that every worker connects to.
// Invariant: nothing that arrives can throw. What is not a worker's valid message of this run and generation is counted and dropped, a
// worker that speaks nonsense or whose connection breaks is reported lost once, and a broken connection is never mended behind our back
// (messages in flight are gone): a worker comes back under a new id, with a new hello.

import { Router } from 'zeromq';
import type { CrosstowerError } from '../spec/errors.ts';
import { PeerLostError, RefusedError, exitCodes } from '../spec/errors.ts';
import { afterReading } from './afterReading.ts';
import type { ListenerCurve } from './curveKeys.ts';
import { EventQueue } from './eventQueue.ts';
import { decodeMessage, encodeMessage } from './frames.ts';
import { HandshakeLog } from './handshakes.ts';
import type { HandshakeFailure } from './handshakes.ts';
import { HeaderRing } from './headerRing.ts';
import { KeyCheck } from './keyCheck.ts';
import { checkHolder } from './keyHolder.ts';
import { toCoordinatorSchema } from './messages.ts';
import type { Message, Outgoing, ToCoordinator, ToWorker } from './messages.ts';
import { ProbeRounds } from './probe.ts';
import { VersionMismatchError } from './protocolError.ts';
import { bindSocket, listenerOptions, sendNow, socketOptions, watchSocket, workerIdPattern } from './sockets.ts';
import type { LinkTimes } from './sockets.ts';

export type CoordinatorEvent =
  | { readonly kind: 'message'; readonly workerId: string; readonly message: Message<ToCoordinator> }
  /** The worker cannot be reached any more, or spoke nonsense; what it sends from now on is dropped. */
  | { readonly kind: 'lost'; readonly workerId: string; readonly error: CrosstowerError };

export interface CoordinatorSocketOptions {
  /** `tcp://HOST:PORT` (port 0 takes a free one) or `ipc://PATH`. */
  readonly address: string;
  readonly run: string;
  readonly generation: number;
  /** Gets one line for each peer that is turned away. */
  readonly log: (line: string) => void;
  /** The coordinator's keys and those of its workers; nothing is encrypted and nobody is checked without. */
  readonly curve?: ListenerCurve | undefined;
  readonly times?: LinkTimes;
}

/** Far more than any run has; a bound on what strangers can make us remember. */
const maxWorkers = 256;
const maxLoggedPeers = 256;

/** These are heard whatever their run and generation: a worker that arrives, leaves, or shows that it is alive. */
const timeless: ReadonlySet<ToCoordinator['type']> = new Set(['hello', 'failed', 'bye', 'pong']);

export class CoordinatorSocket {
  /** Everything that happens, in order; for one consumer. Ends when the socket is closed. */
  readonly events = new EventQueue<CoordinatorEvent>();
  /** Dropped messages: of an earlier run or generation, malformed, from somebody who never said hello. */
  readonly dropped = { stale: 0, malformed: 0, foreign: 0 };

  readonly #socket: Router;
  readonly #curve: ListenerCurve | undefined;
  readonly #keyCheck: KeyCheck | undefined;
  #address: string;
  readonly #run: string;
  #generation: number;
  readonly #log: (line: string) => void;
  readonly #workers = new Set<string>();
  readonly #logged = new Set<string>();
  readonly #headers = new HeaderRing();
  readonly #probes = new ProbeRounds(() => {
    for (const workerId of this.#workers) this.send(workerId, { type: 'ping', step: 0 });
  });

  /** Listens for workers; throws RefusedError where the address is taken, UsageError where it cannot be an address of this machine. */
  static async bind(options: CoordinatorSocketOptions): Promise<CoordinatorSocket> {
    const bound = new CoordinatorSocket(options);
    try {
      await bound.#keyCheck?.start();
      bound.#address = await bindSocket(bound.#socket, options.address);
    } catch (error) {
      bound.close(0);
      throw error;
    }
    void bound.#receive();
    return bound;
  }

  private constructor(options: CoordinatorSocketOptions) {
    this.#address = options.address;
    this.#run = options.run;
    this.#generation = options.generation;
    this.#log = options.log;
    const { curve } = options;
    this.#curve = curve;
    if (curve !== undefined) {
      this.#keyCheck = new KeyCheck(curve, (fingerprint) => {
        this.#logOnce(fingerprint, `turned a connection away: its key ${fingerprint} is not among the allowed ones`);
      });
    }
    this.#socket = new Router({ ...socketOptions(options.times), ...listenerOptions, ...this.#keyCheck?.socketOptions });
    const failures = new HandshakeLog(curve, this.#log);
    const on = {
      disconnect: () => {
        this.#probes.start();
      },
      failure: (failure: HandshakeFailure) => {
        failures.add(failure);
      },
    };
    void watchSocket(this.#socket, on, { isListening: true });
  }

  /** Where it listens, with the port it got. */
  get address(): string {
    return this.#address;
  }

  /** Whether what passes here can be read by those two alone whom it concerns. */
  get isEncrypted(): boolean {
    return this.#curve !== undefined;
  }

  get generation(): number {
    return this.#generation;
  }

  /** From now on headers carry this generation, and what workers still send under an earlier one is dropped. */
  startGeneration(generation: number): void {
    if (generation <= this.#generation) throw new Error(`generation ${String(generation)} after ${String(this.#generation)}`);
    this.#generation = generation;
  }

  /** Hands a message to the network at once; the payload may not be written to afterwards. An unreachable worker is reported as lost. */
  send(workerId: string, header: Outgoing<ToWorker>, payload: readonly Uint8Array[] = []): void {
    this.sendAll([workerId], header, payload);
  }

  /** As `send`, the same message to each of these workers: it is encoded, and its CRC taken, once. */
  sendAll(workerIds: readonly string[], header: Outgoing<ToWorker>, payload: readonly Uint8Array[] = []): void {
    if (this.#socket.closed || workerIds.length === 0) return;
    const whole = { run: this.#run, generation: this.#generation, ...header };
    const frames = encodeMessage(whole, payload);
    for (const workerId of workerIds) {
      if (header.type !== 'ping') this.#headers.add('out', whole);
      sendNow(this.#socket, [Buffer.from(workerId, 'latin1'), ...frames]).catch((error: unknown) => {
        // It may have said why: then it is not lost, it left.
        afterReading(() => {
          this.#lose(workerId, new PeerLostError(`worker ${workerId} is gone: its connection broke`, { cause: error }));
        });
      });
    }
  }

  /** Gives a worker up, which is told: it may come back under a new id. */
  release(workerId: string, reason: string): void {
    this.send(workerId, { type: 'release', step: 0, reason: reason.slice(0, 4000) });
    this.forget(workerId);
  }

  /** What this worker sends from now on is dropped: it was refused. */
  forget(workerId: string): void {
    this.#workers.delete(workerId);
  }

  /** The last 64 headers in both directions, for a post-mortem. */
  recentHeaders(): string[] {
    return this.#headers.dump();
  }

  /** Stops listening; what was sent last may take up to `flushMs` to leave. */
  close(flushMs = 500): void {
    if (this.#socket.closed) return;
    this.#probes.stop();
    this.#socket.linger = flushMs;
    this.#socket.close();
    this.#keyCheck?.close();
    this.events.end();
  }

  async #receive(): Promise<void> {
    for await (const [identity, ...frames] of this.#socket) {
      if (identity !== undefined) this.#take(identity.toString('latin1'), frames);
      await this.events.room();
    }
  }

  #take(workerId: string, frames: readonly Uint8Array[]): void {
    if (!workerIdPattern.test(workerId)) {
      this.dropped.foreign++;
      return;
    }
    let message: Message<ToCoordinator>;
    try {
      message = decodeMessage(frames, toCoordinatorSchema);
      if (message.header.type === 'hello' && this.#curve !== undefined) {
        const { name, tower } = checkHolder(message.header, workerId, this.#curve);
        message = { ...message, header: { ...message.header, tower } };
        this.#logOnce(workerId, `a worker came with the key ${name}`);
      }
    } catch (error) {
      this.#takeNonsense(workerId, error as CrosstowerError);
      return;
    }
    const { header } = message;
    if (header.type !== 'pong') this.#headers.add('in', header);
    if (header.type === 'hello' && this.#workers.size < maxWorkers) this.#workers.add(workerId);
    if (!this.#workers.has(workerId)) {
      this.dropped.foreign++;
      this.#logOnce(workerId, `dropped '${header.type}' of ${workerId}, which has not said hello`);
      return;
    }
    if (!timeless.has(header.type) && (header.run !== this.#run || header.generation !== this.#generation)) {
      this.dropped.stale++;
      return;
    }
    // Last words: that the connection then breaks is no news.
    if (header.type === 'bye' || header.type === 'failed') this.#workers.delete(workerId);
    this.events.push({ kind: 'message', workerId, message });
  }

  #takeNonsense(workerId: string, error: CrosstowerError): void {
    this.dropped.malformed++;
    const isRefusal = error instanceof VersionMismatchError || error instanceof RefusedError;
    this.#logOnce(workerId, `turned ${workerId} away: ${error.message}`);
    if (isRefusal) {
      this.send(workerId, { type: 'refuse', step: 0, exitCode: exitCodes.refused, message: error.message });
    } else if (this.#workers.has(workerId)) {
      // Damaged on its way: the worker is as good as before.
      this.send(workerId, { type: 'release', step: 0, reason: error.message });
    }
    this.#lose(workerId, error);
  }

  #lose(workerId: string, error: CrosstowerError): void {
    if (this.#workers.delete(workerId)) this.events.push({ kind: 'lost', workerId, error });
  }

  #logOnce(workerId: string, line: string): void {
    if (this.#logged.has(workerId) || this.#logged.size >= maxLoggedPeers) return;
    this.#logged.add(workerId);
    this.#log(line);
  }
}
