// Which workers are linked: the two towers of a replica, and each tower to the same one of the next replica, in a ring.
// Invariant: a link has one end that listens and one that connects; both know its token, and nobody else. Where the run is encrypted, each end
// has keys for this link alone.

import { randomUUID } from 'node:crypto';
import { otherTower, towers } from '../spec/layout.ts';
import type { LinkCurve } from '../protocol/curveKeys.ts';
import type { LinkEnd, Neighbour } from '../protocol/messages.ts';
import { newLinkCurves } from '../protocol/newKeys.ts';
import { seatNumber } from './seats.ts';
import type { Seat } from './seats.ts';

interface LinkSecrets {
  readonly token: string;
  /** Of the end that listens, and of the one that connects. */
  readonly curves: readonly [LinkCurve, LinkCurve] | undefined;
}

export class LinkPlan {
  readonly #replicas: number;
  readonly #isEncrypted: boolean;
  /** By the seat that listens, and for whom. */
  readonly #secrets = new Map<string, LinkSecrets>();

  constructor(replicas: number, isEncrypted: boolean) {
    this.#replicas = replicas;
    this.#isEncrypted = isEncrypted;
  }

  /** The links of a worker in these seats; it listens at `address`, or for ipc at a path that begins so, unless its own command says otherwise. */
  endsOf(seats: readonly Seat[], address: string): LinkEnd[] {
    const isBoth = seats.length === towers.length;
    return seats.flatMap((seat) => {
      const { tower, replica } = seat;
      const ends: LinkEnd[] = [];
      const listen = (neighbour: Neighbour): void => {
        const { token, curves } = this.#secretsOf(seat, neighbour);
        // A port of 0 is a new one for every link; a path is made one by what no two links have in common.
        const own = address.startsWith('ipc:') ? `${address}-${token.slice(0, 8)}` : address;
        ends.push({ role: 'listen', tower, neighbour, address: own, token, curve: curves?.[0] });
      };
      const connect = (neighbour: Neighbour, listener: Seat): void => {
        const { token, curves } = this.#secretsOf(listener, neighbour);
        ends.push({ role: 'connect', tower, neighbour, token, curve: curves?.[1] });
      };
      if (!isBoth && tower === 0) listen('tower');
      if (!isBoth && tower === 1) connect('tower', { replica, tower: 0 });
      if (this.#replicas > 1) {
        listen('replica');
        connect('replica', { tower, replica: (replica + this.#replicas - 1) % this.#replicas });
      }
      return ends;
    });
  }

  /** The seat that connects where this one listens. */
  connector({ tower, replica }: Seat, neighbour: Neighbour): Seat {
    return neighbour === 'tower' ? { replica, tower: otherTower(tower) } : { replica: (replica + 1) % this.#replicas, tower };
  }

  #secretsOf(listener: Seat, neighbour: Neighbour): LinkSecrets {
    const key = `${String(seatNumber(listener))} ${neighbour}`;
    let secrets = this.#secrets.get(key);
    if (secrets === undefined) {
      secrets = { token: randomUUID(), curves: this.#isEncrypted ? newLinkCurves() : undefined };
      this.#secrets.set(key, secrets);
    }
    return secrets;
  }
}
