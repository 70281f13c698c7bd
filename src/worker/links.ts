// The links of a worker: to the other tower of its replica, and around the ring of its tower's replicas, where there is more than one.
// Every link has one end that listens and one that connects: tower 0 listens for tower 1, and each replica for the next. Who listens tells
// the coordinator where, and the coordinator tells whoever connects.
// Invariant: all links are up, or none is left open.

import { PeerLostError } from '../spec/errors.ts';
import type { Exchange } from '../spec/exchange.ts';
import type { GradientSum } from '../spec/gradientSum.ts';
import { towers } from '../spec/layout.ts';
import type { TowerIndex } from '../spec/layout.ts';
import { memoryExchangePair } from '../protocol/memoryExchange.ts';
import type { LinkEnd } from '../protocol/messages.ts';
import { RingSum } from '../protocol/ringSum.ts';
import type { EndNames } from '../protocol/swapBoard.ts';
import type { WorkerSocket } from '../protocol/workerSocket.ts';
import { ZeromqExchange } from '../protocol/zeromqExchange.ts';
import type { Inbox, Received } from './inbox.ts';
import { reachableAddress } from './ownAddress.ts';
import { checkExposure } from './security.ts';

/** What a tower of this worker is linked to. */
export interface TowerLinks {
  readonly exchange: Exchange;
  /** None where there is one replica. */
  readonly gradientSum: GradientSum | undefined;
  /** The last headers on each link to another process, for a post-mortem. */
  recentHeaders(): string[];
}

export interface LinkOptions {
  /** The coordinator's: a link listens where the route to it begins, unless it is told otherwise. */
  readonly address: string;
  readonly joinTimeoutMs: number;
  /**
   * Where tower 0 listens for tower 1, and on whose host for the next replica, and where tower 1 reaches it; said by the coordinator
   * otherwise.
   */
  readonly peerAddress?: string;
  /** May listen beyond this machine although nothing is encrypted. */
  readonly insecure: boolean;
}

type Assignment = Received<'assign'>['header'];

/** Joins every link of the towers of this worker; throws what a link could not be joined for. */
export async function joinLinks(
  socket: WorkerSocket,
  inbox: Inbox,
  assignment: Assignment,
  { joinTimeoutMs, address: coordinator, peerAddress, insecure }: LinkOptions,
): Promise<ReadonlyMap<TowerIndex, TowerLinks>> {
  const { config, links, replica, run, generation } = assignment;
  const { replicas } = config;
  const limits = { timeoutMs: 1000 * config.stepTimeout, signal: inbox.signal };
  const opened = new Map<string, ZeromqExchange>();
  const isSecond = links.some(({ role, neighbour }) => role === 'connect' && neighbour === 'tower');
  const optionsOf = (end: LinkEnd) => {
    const ends = endNames(end, replica, replicas);
    return { ...limits, run, generation, joinTimeoutMs, token: end.token, curve: end.curve, ends };
  };
  try {
    for (const end of links) {
      if (end.role !== 'listen') continue;
      const { tower, neighbour } = end;
      const address =
        isSecond || peerAddress === undefined ? await reachableAddress(end.address, coordinator) : addressFor(end, peerAddress);
      if (end.curve === undefined) checkExposure(address, { listens: true, insecure });
      const exchange = await ZeromqExchange.bind({ ...optionsOf(end), address });
      opened.set(keyOf(end), exchange);
      socket.send({ type: 'link', step: 0, tower, neighbour, address: exchange.address });
    }
    for (const _ of links.filter(({ role }) => role === 'connect')) {
      const { header } = await inbox.take(['peer'], { ms: joinTimeoutMs, what: 'the address of another worker' });
      const end = links.find((each) => keyOf(each) === keyOf({ ...header, role: 'connect' }));
      const address = header.neighbour === 'tower' && namesPort(peerAddress) ? peerAddress : header.address;
      if (end === undefined)
        throw new PeerLostError(`the coordinator sent an address for tower ${String(header.tower)}, which is not held here`);
      opened.set(keyOf(end), await ZeromqExchange.connect({ ...optionsOf(end), address }));
    }
    await Promise.all([...opened.values()].map(({ ready }) => ready));
  } catch (error) {
    for (const exchange of opened.values()) exchange.close();
    throw error;
  }
  const pair = assignment.tower === 'both' ? memoryExchangePair(limits) : undefined;
  const held = assignment.tower === 'both' ? towers : [assignment.tower];
  return new Map(
    held.map((tower) => {
      const find = (role: LinkEnd['role'], neighbour: LinkEnd['neighbour']) => opened.get(keyOf({ role, tower, neighbour }));
      const exchange = pair?.[tower] ?? find(tower === 0 ? 'listen' : 'connect', 'tower');
      if (exchange === undefined) throw new PeerLostError(`tower ${String(tower)} was given no link to the other one`);
      const [next, previous] = [find('listen', 'replica'), find('connect', 'replica')];
      const gradientSum =
        next === undefined || previous === undefined ? undefined : new RingSum({ replica, replicas, next, previous });
      const others = links.filter((end) => end.tower === tower);
      const recentHeaders = (): string[] =>
        others.flatMap((end) => (opened.get(keyOf(end))?.recentHeaders() ?? []).map((line) => `${neighbourName(end)}: ${line}`));
      return [tower, { exchange, gradientSum, recentHeaders }];
    }),
  );
}

/** Gives all links up. */
export function closeLinks(links: ReadonlyMap<TowerIndex, TowerLinks>): void {
  for (const { exchange, gradientSum } of links.values()) {
    exchange.close();
    gradientSum?.close();
  }
}

function keyOf({ role, tower, neighbour }: Pick<LinkEnd, 'role' | 'tower' | 'neighbour'>): string {
  return `${role} ${String(tower)} ${neighbour}`;
}

function neighbourName({ role, neighbour }: LinkEnd): string {
  if (neighbour === 'tower') return 'other tower';
  return role === 'listen' ? 'next replica' : 'replica before';
}

/** What messages call the two ends, the one that listens first. */
function endNames({ role, tower, neighbour }: LinkEnd, replica: number, replicas: number): EndNames {
  const nameOf = (which: TowerIndex, of: number): string =>
    replicas === 1 ? `tower ${String(which)}` : `tower ${String(which)} of replica ${String(of)}`;
  if (neighbour === 'tower') return [nameOf(0, replica), nameOf(1, replica)];
  const listener = role === 'listen' ? replica : (replica + replicas - 1) % replicas;
  return [nameOf(tower, listener), nameOf(tower, (listener + 1) % replicas)];
}

/** Whether one can connect to it; both towers may have been given an address with port 0, which tower 0 alone makes something of. */
function namesPort(address: string | undefined): address is string {
  return address !== undefined && !/:(0|\*)$/.test(address);
}

/** Where to listen by what this worker's command says; links of the ring get a port or path of their own beside it. */
function addressFor({ tower, neighbour }: LinkEnd & { role: 'listen' }, peerAddress: string): string {
  if (neighbour === 'tower') return peerAddress;
  return peerAddress.startsWith('ipc:') ? `${peerAddress}-ring-${String(tower)}` : peerAddress.replace(/:[^:]*$/, ':0');
}
