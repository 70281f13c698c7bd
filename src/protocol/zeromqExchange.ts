// The exchange of two towers in two processes: tower 0 binds a ROUTER, tower 1 connects a DEALER whose routing id is the token that the
// coordinator gave to both. Each swap is one message: a header with the tag, and the tensor's bytes in 1 MiB frames.
//
//     tower 1 (DEALER)                 tower 0 (ROUTER)
//        open            ------------>    ready
//        ready           <------------    open
//        tensor ...      <----------->    tensor ...
//
// Invariant: a link lives in one generation and is never mended. When its connection breaks, messages in flight are lost, so every swap
// rejects; the coordinator raises the generation, and a new link is made. No bit is changed on the way: a CRC says so for every tensor.

import { Dealer, Router } from 'zeromq';
import type { Exchange, OneWayLink, Swap, SwapTag, TensorData } from '../spec/exchange.ts';
import { PeerLostError } from '../spec/errors.ts';
import type { TowerIndex } from '../spec/layout.ts';
import { otherTower, sizeOf } from '../spec/layout.ts';
import { afterReading } from './afterReading.ts';
import type { LinkCurve } from './curveKeys.ts';
import { bytesOf, decodeMessage, encodeMessage, floatsOf, splitFrames } from './frames.ts';
import { HandshakeJudge, uncheckedError } from './handshakes.ts';
import type { HandshakeFailure } from './handshakes.ts';
import { HeaderRing } from './headerRing.ts';
import { KeyCheck, connectorCurveOptions } from './keyCheck.ts';
import { betweenTowersSchema } from './messages.ts';
import type { BetweenTowers, Message, Outgoing } from './messages.ts';
import { ProbeRounds } from './probe.ts';
import { ProtocolError } from './protocolError.ts';
import { bindSocket, connectSocket, connectorOptions, listenerOptions, sendNow, socketOptions, watchSocket } from './sockets.ts';
import type { LinkTimes } from './sockets.ts';
import { SpareMemory, freeFrames } from './spareMemory.ts';
import { SwapBoard, towerEnds } from './swapBoard.ts';
import type { EndNames, ExchangeLimits } from './swapBoard.ts';

export interface ZeromqExchangeOptions extends ExchangeLimits {
  /** To bind (tower 0) or to connect to (tower 1): `tcp://HOST:PORT` or `ipc://PATH`. */
  readonly address: string;
  readonly run: string;
  readonly generation: number;
  /** Known to both towers and nobody else; 16 to 128 characters. */
  readonly token: string;
  /** How long the other tower may take to join. */
  readonly joinTimeoutMs: number;
  /** This end's keys and the other's public one; nothing is encrypted without. */
  readonly curve?: LinkCurve | undefined;
  readonly times?: LinkTimes;
}

export class ZeromqExchange implements Exchange, OneWayLink {
  /** Settles when both towers have heard each other: resolves, or rejects with PeerLostError. */
  readonly ready: Promise<void>;
  /** Dropped messages: of an earlier run or generation, or from somebody who does not know the token. */
  readonly dropped = { stale: 0, foreign: 0 };

  readonly #tower: TowerIndex;
  readonly #options: ZeromqExchangeOptions;
  readonly #socket: Dealer | Router;
  /** Of tower 0 under CURVE. */
  readonly #keyCheck: KeyCheck | undefined;
  readonly #judge: HandshakeJudge;
  #address: string;
  readonly #board: SwapBoard;
  readonly #headers = new HeaderRing();
  readonly #memory = new SpareMemory();
  readonly #joinDeadline: NodeJS.Timeout;
  readonly #probes = new ProbeRounds(() => {
    this.#send({ type: 'probe', step: 0 });
  });
  #settleReady: { readonly resolve: () => void; readonly reject: (reason: Error) => void } | undefined;
  readonly #names: EndNames;
  #bytesSent = 0;

  /** Tower 0's end, listening; `address` says where. Throws RefusedError or UsageError for the address. */
  static async bind(options: ZeromqExchangeOptions): Promise<ZeromqExchange> {
    const { curve } = options;
    const keyCheck =
      curve === undefined
        ? undefined
        : new KeyCheck({ keys: curve, allowed: [{ publicKey: curve.peerKey, name: 'the other end' }] });
    const socket = new Router({ ...socketOptions(options.times), ...listenerOptions, ...keyCheck?.socketOptions });
    const exchange = new ZeromqExchange(0, socket, options, keyCheck);
    await exchange.#start(async () => {
      await keyCheck?.start();
      exchange.#address = await bindSocket(socket, options.address);
    });
    return exchange;
  }

  /** Tower 1's end, on its way to tower 0's address. Throws UsageError for the address. */
  static async connect(options: ZeromqExchangeOptions): Promise<ZeromqExchange> {
    const { curve } = options;
    const socket = new Dealer({
      ...socketOptions(options.times),
      ...connectorOptions,
      ...(curve === undefined ? {} : connectorCurveOptions(curve, curve.peerKey)),
      routingId: options.token,
    });
    const exchange = new ZeromqExchange(1, socket, options);
    await exchange.#start(() => connectSocket(socket, options.address));
    return exchange;
  }

  private constructor(tower: TowerIndex, socket: Dealer | Router, options: ZeromqExchangeOptions, keyCheck?: KeyCheck) {
    this.#tower = tower;
    this.#options = options;
    this.#names = options.ends ?? towerEnds;
    this.#socket = socket;
    this.#keyCheck = keyCheck;
    const { curve } = options;
    this.#judge = new HandshakeJudge(
      `${this.#names[0]} at ${options.address}`,
      curve === undefined ? undefined : { keys: curve, serverKey: curve.peerKey },
      options.times?.brokenOffMs,
    );
    this.#address = options.address;
    this.#board = new SwapBoard(tower, options, (reason) => {
      this.#end(reason);
    });
    this.ready = new Promise<void>((resolve, reject) => {
      this.#settleReady = { resolve, reject };
    });
    this.ready.catch(() => undefined);
    this.#joinDeadline = setTimeout(() => {
      const seconds = (options.joinTimeoutMs / 1000).toFixed(0);
      const refused = keyCheck?.lastRefused;
      const others = refused === undefined ? '' : `; somebody with the key ${refused} was turned away`;
      this.close(this.#peerLost(`did not join the link at ${this.#address} within ${seconds} s${others}`));
    }, options.joinTimeoutMs);
  }

  /** Where tower 0 listens, with the port it got. */
  get address(): string {
    return this.#address;
  }

  get bytesSent(): number {
    return this.#bytesSent;
  }

  /** The last 64 headers in both directions, for a post-mortem. */
  recentHeaders(): string[] {
    return this.#headers.dump();
  }

  swap(tag: SwapTag, mine: TensorData): Swap {
    const received = this.take(tag, mine.values.byteLength);
    if (this.#board.failure === undefined) this.give(tag, mine);
    return { received };
  }

  give(tag: SwapTag, mine: TensorData): void {
    if (this.#board.failure !== undefined) throw this.#board.failure;
    if (this.#settleReady !== undefined) throw new Error(`a swap before the link is ready: ${tag.site}`);
    this.#bytesSent += mine.values.byteLength;
    this.#send({ type: 'tensor', ...tag, shape: [...mine.shape] }, splitFrames(bytesOf(mine.values)));
  }

  take(tag: SwapTag, bytes: number): Promise<TensorData> {
    return this.#board.claim(tag, bytes);
  }

  release({ values }: TensorData): void {
    this.#memory.release(values);
  }

  close(reason: Error = new PeerLostError(`${this.#names[this.#tower]} closed the link`)): void {
    this.#board.fail(reason);
  }

  async #start(open: () => Promise<void>): Promise<void> {
    const on = {
      handshake: () => {
        if (this.#tower === 1 && this.#settleReady !== undefined) this.#send({ type: 'open', step: 0, tower: 1 });
      },
      disconnect: () => {
        if (this.#settleReady !== undefined) return;
        // A ROUTER has perhaps lost a stranger only; a DEALER has but one connection.
        if (this.#tower === 0) this.#probes.start();
        else this.close(this.#peerLost('broke the connection'));
      },
      failure: (failure: HandshakeFailure) => {
        if (this.#settleReady === undefined) return;
        const unchecked = failure === 'unchecked' ? uncheckedError() : undefined;
        const refusal = this.#tower === 0 ? unchecked : this.#judge.failed(failure);
        if (refusal !== undefined) this.close(refusal);
      },
    };
    void watchSocket(this.#socket, on, { isListening: this.#tower === 0 });
    try {
      await open();
    } catch (error) {
      this.close(error as Error);
      // The reason that came first: an abort closes the socket under our feet.
      throw this.#board.failure ?? error;
    }
    void this.#receive();
  }

  #send(header: Outgoing<BetweenTowers>, payload: readonly Uint8Array[] = []): void {
    const { run, generation, token } = this.#options;
    if (header.type !== 'probe') this.#headers.add('out', header);
    const frames = encodeMessage({ run, generation, ...header }, payload);
    if (this.#tower === 0) frames.unshift(Buffer.from(token));
    sendNow(this.#socket, frames).catch((error: unknown) => {
      // An `open` is repeated with the next connection; a tensor or a probe that cannot leave is a connection that broke.
      if (header.type === 'open') return;
      afterReading(() => {
        this.close(this.#peerLost(`cannot be reached (${header.type}, step ${header.step})`, error));
      });
    });
  }

  async #receive(): Promise<void> {
    for await (const frames of this.#socket) {
      if (this.#tower === 0 && frames.shift()?.toString('latin1') !== this.#options.token) {
        this.dropped.foreign++;
        continue;
      }
      try {
        this.#take(decodeMessage(frames, betweenTowersSchema));
      } catch (error) {
        if (!(error instanceof ProtocolError)) throw error;
        this.close(this.#peerLost(`sent nonsense: ${error.message}`, error));
      }
    }
  }

  #take({ header, payload }: Message<BetweenTowers>): void {
    if (header.run !== this.#options.run || header.generation !== this.#options.generation) {
      this.dropped.stale++;
      return;
    }
    if (header.type === 'probe') return;
    this.#headers.add('in', header);
    if (header.type === 'open') this.#takeOpen(header.tower);
    else this.#takeTensor(header, payload);
  }

  #takeTensor(header: Extract<BetweenTowers, { type: 'tensor' }>, payload: readonly Uint8Array[]): void {
    const { shape } = header;
    const values = floatsOf(payload, sizeOf(shape), this.#memory);
    freeFrames(payload);
    this.#board.arrive(header, { shape, values });
  }

  #takeOpen(tower: TowerIndex): void {
    if (tower === this.#tower) throw new ProtocolError(`it claims to be ${this.#names[tower]} as well`);
    if (this.#settleReady === undefined) {
      this.close(this.#peerLost('connected a second time: what was under way is lost'));
      return;
    }
    if (this.#tower === 0) this.#send({ type: 'open', step: 0, tower: 0 });
    clearTimeout(this.#joinDeadline);
    this.#settleReady.resolve();
    this.#settleReady = undefined;
  }

  #end(reason: Error): void {
    clearTimeout(this.#joinDeadline);
    this.#probes.stop();
    this.#settleReady?.reject(reason);
    this.#settleReady = undefined;
    if (!this.#socket.closed) this.#socket.close();
    this.#keyCheck?.close();
  }

  #peerLost(what: string, cause?: unknown): PeerLostError {
    return new PeerLostError(`${this.#names[otherTower(this.#tower)]} ${what}`, { cause });
  }
}
