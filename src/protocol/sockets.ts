// How every ZeroMQ socket of a run is set up, bound and fed: addresses that are checked before libzmq sees them (it retries a host that
// does not exist for ever, and takes an ipc path away from whoever listens there), and options where its defaults are not ours.
// Invariant: a send happens within the call. Nothing waits in JavaScript, so that sends never overtake each other nor wait for the event
// loop; how much can pile up in libzmq is bounded by the protocol (credit, one tensor a swap), not by its high water marks.

import { randomBytes } from 'node:crypto';
import { lookup } from 'node:dns/promises';
import { connect as connectRaw, isIP } from 'node:net';
import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import type { Dealer, Router } from 'zeromq';
import { PeerLostError, RefusedError, UsageError } from '../spec/errors.ts';
import { afterReading } from './afterReading.ts';
import { frameBytes } from './frames.ts';
import { handshakeFailure } from './handshakes.ts';
import type { HandshakeFailure } from './handshakes.ts';

/** How soon a dead connection is noticed; shorter only in tests. */
export interface LinkTimes {
  /** A connection that has not finished ZeroMQ's handshake by then is closed. */
  readonly handshakeMs?: number;
  /** Must outlast a network that is away for five seconds and comes back. */
  readonly heartbeatTimeoutMs?: number;
  /** So long must a listening side break every handshake off before it is taken for one that will never let us in. */
  readonly brokenOffMs?: number;
}

export function socketOptions(times: LinkTimes = {}) {
  const heartbeatTimeout = times.heartbeatTimeoutMs ?? 10_000;
  return {
    linger: 0,
    sendHighWaterMark: 0,
    /** Zero makes a send succeed or fail at once (see the invariant). */
    sendTimeout: 0,
    /** Messages per peer that wait for JavaScript; beyond, the peer's own network stack is what fills. */
    receiveHighWaterMark: 64,
    /** Per frame: a larger one ends the connection before memory is allocated for it. */
    maxMessageSize: frameBytes,
    handshakeInterval: times.handshakeMs ?? 5000,
    heartbeatInterval: Math.min(2000, heartbeatTimeout / 4),
    heartbeatTimeout,
    heartbeatTimeToLive: heartbeatTimeout,
  };
}

/** Options of a listening socket, on top. */
export const listenerOptions = {
  /** An unreachable peer is an error, not silence. */
  mandatory: true,
  /** Who connects with the id of a peer that is there gets nothing. */
  handover: false,
  /** Connections that wait to be taken: beyond, TCP tries again after a second, and a worker among strangers would have to. */
  backlog: 1024,
  /** With any domain libzmq turns the protocols before ZMTP 3 away, which have no handshake to time out: HTTP passes for one of them. */
  zapDomain: 'crosstower',
} as const;

/**
 * Options of a connecting socket, on top: retry calmly. Not `immediate`, although nothing may queue up for a connection that is not there
 * (we send after a handshake only): with it libzmq throws unread messages away when the connection ends, last words first of all.
 */
export const connectorOptions = { reconnectInterval: 100, reconnectMaxInterval: 2000 } as const;

export type Address =
  | { readonly transport: 'tcp'; readonly host: string; readonly port: string }
  | { readonly transport: 'ipc'; readonly path: string };

/** Takes `tcp://HOST:PORT` (`tcp://[::1]:PORT`) or `ipc://PATH` apart; throws UsageError. */
export function parseAddress(text: string): Address {
  const tcp = /^tcp:\/\/(?:\[([0-9a-fA-F:.]+)\]|([A-Za-z0-9._*-]+)):(\d{1,5}|\*)$/.exec(text);
  const host = tcp?.[1] ?? tcp?.[2];
  const port = tcp?.[3];
  if (host !== undefined && port !== undefined && (port === '*' || Number(port) <= 65_535))
    return { transport: 'tcp', host, port };
  const path = /^ipc:\/\/(.+)$/.exec(text)?.[1];
  if (path !== undefined) {
    // The kernel's limit for a socket's path is 107 bytes.
    if (Buffer.byteLength(path) > 107) throw new UsageError(`${text}: the path of an ipc address may have at most 107 bytes`);
    return { transport: 'ipc', path };
  }
  throw new UsageError(`${text}: not an address; write tcp://HOST:PORT or ipc://PATH`);
}

/** Whether only processes of this machine can connect to an address; a name other than localhost may mean anything. Throws UsageError. */
export function isOnThisMachine(address: string): boolean {
  const parsed = parseAddress(address);
  if (parsed.transport === 'ipc' || parsed.host === 'localhost') return true;
  return parsed.host === '::1' || (isIP(parsed.host) === 4 && parsed.host.startsWith('127.'));
}

/** Whether a host needs IPv6; throws UsageError where its name does not resolve. */
async function needsIpv6(host: string, address: string): Promise<boolean> {
  if (host === '*') return false;
  const family = isIP(host);
  if (family !== 0) return family === 6;
  try {
    const found = await lookup(host, { all: true });
    return !found.some((one) => one.family === 4);
  } catch (error) {
    throw new UsageError(`${address}: the host name ${host} does not resolve`, { cause: error });
  }
}

/** A socket that was closed a moment ago lets go of its address on a thread of its own: so often is it asked again, 50 ms apart. */
const bindAttempts = 10;

/** Binds a socket and returns the address it listens at (port 0 or `*` takes a free one); throws RefusedError or UsageError. */
export async function bindSocket(socket: Router, address: string): Promise<string> {
  const parsed = parseAddress(address);
  let toBind = address;
  if (parsed.transport === 'tcp') {
    socket.ipv6 = await needsIpv6(parsed.host, address);
    // libzmq binds to interfaces and numbers, not to names.
    if (parsed.host !== '*' && isIP(parsed.host) === 0) {
      const number = await lookup(parsed.host, { family: socket.ipv6 ? 6 : 4 });
      toBind = `tcp://${socket.ipv6 ? `[${number.address}]` : number.address}:${parsed.port}`;
    }
  }
  for (let attempt = 1; ; attempt++) {
    try {
      if (parsed.transport === 'ipc' && (await someoneListens(parsed.path))) throw inUse(address);
      await socket.bind(toBind);
      return socket.lastEndpoint ?? toBind;
    } catch (error) {
      const code = errorCode(error);
      // libzmq, telling its monitor of the failure, now and then overwrites the reason with EAGAIN, which bind itself never has.
      const isTaken = error instanceof RefusedError || code === 'EADDRINUSE' || code === 'EAGAIN';
      if (!isTaken) {
        const advice = 'is it an address of this machine, and free to take?';
        throw new UsageError(`cannot listen at ${address} (${code ?? 'unknown'}): ${advice}`, { cause: error });
      }
      if (attempt === bindAttempts) throw error instanceof RefusedError ? error : inUse(address, error);
      await sleep(50);
    }
  }
}

function inUse(address: string, cause?: unknown): RefusedError {
  return new RefusedError(`${address} is in use: another coordinator or worker listens there`, { cause });
}

/** Whether a process listens at an ipc path. Abstract sockets (`@name`) are looked after by the kernel; a path is not: libzmq would unlink it and take over. */
export function someoneListens(path: string): Promise<boolean> {
  if (path.startsWith('@') || path === '*') return Promise.resolve(false);
  return new Promise((resolve) => {
    const probe = connectRaw({ path });
    probe.once('connect', () => {
      probe.destroy();
      resolve(true);
    });
    probe.once('error', () => {
      resolve(false);
    });
  });
}

/** Starts to connect a socket, for as long as it takes; throws UsageError for an address that can never work. */
export async function connectSocket(socket: Dealer, address: string): Promise<void> {
  const parsed = parseAddress(address);
  if (parsed.transport === 'tcp') {
    if (parsed.host === '*' || parsed.port === '*' || Number(parsed.port) === 0) {
      throw new UsageError(`${address}: name the host and the port to connect to`);
    }
    const ipv6 = await needsIpv6(parsed.host, address);
    if (socket.closed) return;
    socket.ipv6 = ipv6;
  }
  try {
    socket.connect(address);
  } catch (error) {
    throw new UsageError(`cannot connect to ${address} (${errorCode(error) ?? 'unknown'})`, { cause: error });
  }
}

/** Sends within the call; the promise is already settled, and rejects where the other side cannot be reached (PeerLostError). */
export async function sendNow(socket: Dealer | Router, frames: Uint8Array[]): Promise<void> {
  // Asking makes libzmq take note of connections that came or went since it was last asked. It must not be done without sending: what
  // it takes note of may be a message, and it is `send` that then wakes whoever waits to receive.
  const isConnected = socket.writable;
  try {
    await socket.send(frames);
  } catch (error) {
    throw new PeerLostError(isConnected ? 'the other side cannot be reached' : 'nobody is connected', { cause: error });
  }
}

/**
 * Strangers make a listening socket's events, three for each connection, and reading one as it comes costs more than all that libzmq does
 * for them. So they are read in turns this far apart at the least; libzmq keeps 2000, and would wait with the next until one is read.
 */
const eventTurnMs = 50;

/**
 * The events of a socket that matter here, until it is closed. Must be called before bind and connect. `disconnect` comes after the
 * messages that arrived before it: last words count. The events of a listening socket come up to `eventTurnMs` late.
 */
export async function watchSocket(
  socket: Dealer | Router,
  on: {
    readonly handshake?: () => void;
    readonly disconnect?: () => void;
    readonly answer?: () => void;
    readonly failure?: (failure: HandshakeFailure) => void;
  },
  { isListening = false } = {},
): Promise<void> {
  try {
    let askedMs = performance.now();
    for await (const event of socket.events) {
      if (event.type === 'handshake') on.handshake?.();
      else if (event.type === 'connect') on.answer?.();
      else if (event.type === 'disconnect') afterReading(() => on.disconnect?.());
      else {
        const failure = handshakeFailure(event);
        if (failure !== undefined) on.failure?.(failure);
      }
      // What had to be waited for is the first of its turn; what had come already is read at once.
      if (isListening && performance.now() - askedMs > 0.5) await sleep(eventTurnMs);
      askedMs = performance.now();
    }
  } catch (error) {
    if (!socket.closed) throw error;
  }
}

/** A worker's id on the wire, drawn anew for every connection, so that nobody can be taken for a worker that was there before. */
export function newWorkerId(): string {
  return `worker-${randomBytes(16).toString('hex')}`;
}

/** What `newWorkerId` makes. */
export const workerIdPattern = /^worker-[0-9a-f]{32}$/;

function errorCode(error: unknown): string | undefined {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' ? error.code : undefined;
}
