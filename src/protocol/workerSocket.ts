// A worker's end of its control link: one DEALER to the coordinator.
// Invariant: a connection that breaks is given up, not mended: messages in flight are gone, so the worker is told, gets a new connection
// under a new id when the coordinator can be reached again, and says hello anew. What is not of the assigned run and generation is dropped.

import { setTimeout as sleep } from 'node:timers/promises';
import { Dealer } from 'zeromq';
import type { CrosstowerError } from '../spec/errors.ts';
import { PeerLostError, RefusedError } from '../spec/errors.ts';
import { proofOf } from './curveKeys.ts';
import type { ConnectorCurve } from './curveKeys.ts';
import { EventQueue } from './eventQueue.ts';
import { decodeMessage, encodeMessage, gatherFrames } from './frames.ts';
import { HandshakeJudge } from './handshakes.ts';
import { HeaderRing } from './headerRing.ts';
import { connectorCurveOptions } from './keyCheck.ts';
import { toWorkerSchema } from './messages.ts';
import type { Message, Outgoing, ToCoordinator, ToWorker } from './messages.ts';
import { VersionMismatchError } from './protocolError.ts';
import { connectSocket, connectorOptions, newWorkerId, sendNow, socketOptions, watchSocket } from './sockets.ts';
import type { LinkTimes } from './sockets.ts';
import { SpareMemory } from './spareMemory.ts';

export type WorkerSocketEvent =
  | { readonly kind: 'message'; readonly message: Message<ToWorker> }
  /** The connection broke, or was given up for this reason: whatever was under way is void. */
  | { readonly kind: 'disconnected'; readonly reason?: string }
  /** The coordinator (perhaps another one) can be reached again: say hello. */
  | { readonly kind: 'reconnected' }
  /** Last event: the coordinator stayed away, or makes no sense. */
  | { readonly kind: 'lost'; readonly error: CrosstowerError };

export interface WorkerSocketOptions {
  readonly address: string;
  /** How long the coordinator may be away, at the start and after a broken connection. */
  readonly joinTimeoutMs: number;
  /** The worker's keys and the coordinator's public one; nothing is encrypted without. */
  readonly curve?: ConnectorCurve | undefined;
  readonly signal?: AbortSignal;
  readonly times?: LinkTimes;
}

export class WorkerSocket {
  /** Everything that happens, in order; for one consumer. */
  readonly events = new EventQueue<WorkerSocketEvent>();
  /** Dropped messages: of an earlier run or generation, or sent while the connection was down. */
  readonly dropped = { stale: 0, unsent: 0 };

  readonly #options: WorkerSocketOptions;
  readonly #headers = new HeaderRing();
  readonly #memory = new SpareMemory();
  readonly #judge: HandshakeJudge;
  #socket: Dealer | undefined;
  /** Ours on this connection. */
  #workerId = '';
  #connected = false;
  #closed = false;
  /** As of the last assign; empty before. */
  #session = { run: '', generation: 0 };
  #deadline: NodeJS.Timeout | undefined;
  /** A connection came about, but no handshake yet. */
  #somebodyAnswers = false;

  /** Connects and waits for the coordinator; throws UsageError for a bad address, PeerLostError where nobody answers in time. */
  static async connect(options: WorkerSocketOptions): Promise<WorkerSocket> {
    const socket = new WorkerSocket(options);
    socket.#startDeadline();
    const { signal } = options;
    const abort = (): void => {
      socket.#lose(new PeerLostError(`gave up connecting to ${options.address}`, { cause: signal?.reason }));
    };
    signal?.addEventListener('abort', abort, { once: true });
    try {
      if (signal?.aborted === true) abort();
      else await socket.#connect();
      for await (const event of socket.events) {
        if (event.kind === 'lost') throw event.error;
        if (event.kind === 'reconnected') break;
      }
      return socket;
    } catch (error) {
      socket.close(0);
      throw error;
    } finally {
      signal?.removeEventListener('abort', abort);
    }
  }

  private constructor(options: WorkerSocketOptions) {
    this.#options = options;
    this.#judge = new HandshakeJudge(`the coordinator at ${options.address}`, options.curve, options.times?.brokenOffMs);
  }

  /** Run and generation as last assigned; outgoing headers carry them. */
  get session(): { readonly run: string; readonly generation: number } {
    return this.#session;
  }

  /** Hands a message to the network at once; the payload may not be written to afterwards. Without a connection it is dropped. */
  send(header: Outgoing<ToCoordinator>, payload: readonly Uint8Array[] = []): void {
    if (!this.#connected || this.#socket === undefined) {
      this.dropped.unsent++;
      return;
    }
    const whole = { ...this.#session, ...header, ...(header.type === 'hello' ? this.#proof() : {}) };
    if (header.type !== 'pong') this.#headers.add('out', whole);
    sendNow(this.#socket, encodeMessage(whole, payload)).catch(() => {
      // The connection is breaking: the socket's monitor will say so.
      this.dropped.unsent++;
    });
  }

  /** Nobody reads the payload of this message any more: that of another may be written over it. */
  release({ payload }: Message<ToWorker>): void {
    for (const piece of payload) this.#memory.release(piece);
  }

  /** The last 64 headers in both directions, for a post-mortem. */
  recentHeaders(): string[] {
    return this.#headers.dump();
  }

  /** Leaves; what was sent last may take up to `flushMs` to get out. */
  close(flushMs = 500): void {
    if (this.#closed) return;
    this.#closed = true;
    clearTimeout(this.#deadline);
    this.#dropSocket(flushMs);
    this.events.end();
  }

  /** Whose hello it is: see `proofOf`. */
  #proof() {
    const { curve } = this.#options;
    if (curve === undefined) return {};
    const { keys, serverKey } = curve;
    return { proof: { publicKey: keys.publicKey, mac: proofOf(keys, serverKey, this.#workerId) } };
  }

  async #connect(): Promise<void> {
    const { curve, times } = this.#options;
    this.#workerId = newWorkerId();
    const socket = new Dealer({
      ...socketOptions(times),
      ...connectorOptions,
      ...(curve === undefined ? {} : connectorCurveOptions(curve.keys, curve.serverKey)),
      routingId: this.#workerId,
    });
    this.#socket = socket;
    const isCurrent = (): boolean => this.#socket === socket;
    void watchSocket(socket, {
      handshake: () => {
        // While the event loop was blocked, libzmq may have mended a connection that we have yet to give up.
        if (!isCurrent() || this.#connected) return;
        clearTimeout(this.#deadline);
        this.#judge.succeeded();
        this.#connected = true;
        this.#somebodyAnswers = false;
        this.events.push({ kind: 'reconnected' });
      },
      disconnect: () => {
        if (isCurrent()) void this.#reconnect();
      },
      answer: () => {
        this.#somebodyAnswers = true;
      },
      failure: (failure) => {
        const refusal = isCurrent() ? this.#judge.failed(failure) : undefined;
        if (refusal !== undefined) this.#lose(refusal);
      },
    });
    await connectSocket(socket, this.#options.address);
    void this.#receive(socket);
  }

  async #reconnect(reason?: string): Promise<void> {
    if (this.#connected) {
      this.events.push({ kind: 'disconnected', ...(reason === undefined ? {} : { reason }) });
      this.#startDeadline();
    }
    this.#session = { run: '', generation: 0 };
    for (;;) {
      this.#dropSocket(0);
      if (this.#closed) return;
      try {
        await this.#connect();
        return;
      } catch {
        // The address was good before: until the deadline has passed, this is a network (or a name server) that is down.
        await sleep(1000);
      }
    }
  }

  async #receive(socket: Dealer): Promise<void> {
    for await (const frames of socket) {
      if (this.#socket !== socket) return;
      this.#take(frames);
      await this.events.room();
    }
  }

  #take(frames: readonly Uint8Array[]): void {
    let message: Message<ToWorker>;
    try {
      message = decodeMessage(frames, toWorkerSchema);
    } catch (error) {
      // There is one coordinator, and without it no run: a message that is lost to us is a step that never ends.
      const cause = error as CrosstowerError;
      const problem = `the coordinator at ${this.#options.address}: ${cause.message}`;
      // One that has made sense before sent something that was damaged on its way.
      if (this.#session.run !== '' && !(error instanceof VersionMismatchError)) {
        void this.#reconnect(problem);
        return;
      }
      this.#lose(
        error instanceof VersionMismatchError ? new RefusedError(problem, { cause }) : new PeerLostError(problem, { cause }),
      );
      return;
    }
    const { header, payload } = message;
    if (header.type === 'ping') {
      this.send({ type: 'pong', step: header.step });
      return;
    }
    this.#headers.add('in', header);
    if (header.type === 'release') {
      void this.#reconnect(`the coordinator gave this worker up: ${header.reason}`);
      return;
    }
    if (header.type === 'assign' && !this.#isOlder(header)) {
      this.#session = { run: header.run, generation: header.generation };
    }
    const isCurrent = header.run === this.#session.run && header.generation === this.#session.generation;
    const isWanted = isCurrent || header.type === 'refuse' || header.type === 'stop';
    if (isWanted) this.events.push({ kind: 'message', message: { header, payload: gatherFrames(payload, this.#memory) } });
    else this.dropped.stale++;
  }

  #isOlder(header: { readonly run: string; readonly generation: number }): boolean {
    return header.run === this.#session.run && header.generation < this.#session.generation;
  }

  #startDeadline(): void {
    const { address, joinTimeoutMs } = this.#options;
    this.#deadline = setTimeout(() => {
      const advice = this.#somebodyAnswers
        ? 'somebody answers there, but does not speak our language'
        : 'is the coordinator running, and is this its address?';
      this.#lose(new PeerLostError(`no coordinator at ${address} for ${(joinTimeoutMs / 1000).toFixed(0)} s: ${advice}`));
    }, joinTimeoutMs);
  }

  #lose(error: CrosstowerError): void {
    this.events.push({ kind: 'lost', error });
    this.close(0);
  }

  #dropSocket(lingerMs: number): void {
    const socket = this.#socket;
    this.#socket = undefined;
    this.#connected = false;
    if (socket === undefined || socket.closed) return;
    socket.linger = lingerMs;
    socket.close();
  }
}
