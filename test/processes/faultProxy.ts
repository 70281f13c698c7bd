// A TCP proxy that does to a connection what networks do: holds it up, slows it down, cuts it, damages it.
// Invariant: bytes leave in the order they came; what is held back leaves when the fault is over, unless the connection was cut.

import { connect, createServer } from 'node:net';
import type { AddressInfo, Server, Socket } from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

interface Pipe {
  readonly near: Socket;
  readonly far: Socket;
}

export class FaultProxy {
  /** Of every chunk, in each direction. */
  latencyMs = 0;
  /** In each direction; no limit, if absent. */
  bytesPerMs: number | undefined;
  /** New connections are reset at once, as by a host where nobody listens. */
  isRefusing = false;
  readonly #server: Server;
  readonly #pipes = new Set<Pipe>();
  readonly #sockets = new Set<Socket>();
  #target = '';
  #isHolding = false;
  #letGo: (() => void)[] = [];
  /** Bytes that may pass, in both directions together, before the fault strikes. */
  #countdown: { left: number; readonly strike: 'cut' | 'flip' } | undefined;
  #struck = 0;

  private constructor() {
    this.#server = createServer((near) => {
      this.#open(near);
    });
  }

  /** Listens at a free port; `target` may be said later. */
  static async listen(target = ''): Promise<FaultProxy> {
    const proxy = new FaultProxy();
    proxy.#target = target;
    await new Promise<void>((resolve) => proxy.#server.listen(0, '127.0.0.1', resolve));
    return proxy;
  }

  /** `tcp://127.0.0.1:PORT` */
  get address(): string {
    return `tcp://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  /** Where new connections go: `tcp://HOST:PORT`. */
  set target(address: string) {
    this.#target = address;
  }

  /** Faults of `afterBytes` that have happened. */
  get struck(): number {
    return this.#struck;
  }

  /** From now on nothing passes, and nobody is told: a cable that was pulled. */
  blackhole(): void {
    this.#isHolding = true;
  }

  /** The cable is plugged in again. */
  heal(): void {
    this.#isHolding = false;
    for (const letGo of this.#letGo.splice(0)) letGo();
  }

  /** Resets every connection now (RST). */
  reset(): void {
    for (const { near, far } of this.#pipes) {
      near.resetAndDestroy();
      far.resetAndDestroy();
    }
    this.#pipes.clear();
  }

  /** After so many bytes more, resets every connection in the middle of what it carries, or flips one bit. Once. */
  afterBytes(count: number, strike: 'cut' | 'flip'): void {
    this.#countdown = { left: count, strike };
  }

  async close(): Promise<void> {
    this.heal();
    this.reset();
    const closed = new Promise((resolve) => this.#server.close(resolve));
    // Also those whose other half is gone already: the server waits for all of them.
    for (const socket of this.#sockets) socket.destroy();
    await closed;
  }

  #open(near: Socket): void {
    const { hostname, port } = new URL(this.#target.replace('tcp:', 'http:'));
    if (this.isRefusing) {
      near.resetAndDestroy();
      return;
    }
    const far = connect({ host: hostname, port: Number(port) });
    const pipe = { near, far };
    this.#pipes.add(pipe);
    for (const socket of [near, far]) {
      this.#sockets.add(socket);
      socket.once('close', () => this.#sockets.delete(socket));
    }
    far.once('close', () => this.#pipes.delete(pipe));
    const end = (): void => {
      near.destroy();
      far.destroy();
    };
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      from.setNoDelay(true).on('error', end);
      void this.#carry(from, to).catch(end);
    }
  }

  async #carry(from: Socket, to: Socket): Promise<void> {
    for await (const chunk of from) {
      const bytes = chunk as Buffer;
      if (this.latencyMs > 0) await sleep(this.latencyMs);
      if (this.bytesPerMs !== undefined) await sleep(bytes.length / this.bytesPerMs);
      if (this.#isHolding) await new Promise<void>((resolve) => this.#letGo.push(resolve));
      // Closed while the bytes were held up: nobody will say so any more.
      if (to.destroyed) {
        from.destroy();
        return;
      }
      if (this.#strikes(bytes) === 'cut') {
        to.write(bytes.subarray(0, bytes.length >> 1), () => {
          this.reset();
        });
        return;
      }
      if (!to.write(bytes)) await new Promise((resolve) => to.once('drain', resolve).once('close', resolve));
    }
    // What was held up has left before the end does.
    to.end();
  }

  /** Counts a chunk; a bit of it is flipped here. */
  #strikes(bytes: Buffer): 'cut' | 'flip' | undefined {
    if (this.#countdown === undefined) return undefined;
    this.#countdown.left -= bytes.length;
    if (this.#countdown.left > 0) return undefined;
    const { strike } = this.#countdown;
    this.#countdown = undefined;
    this.#struck++;
    if (strike === 'flip') bytes[bytes.length >> 1]! ^= 1;
    return strike;
  }
}
