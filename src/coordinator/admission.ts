// Who may take which seat. A hello has passed the checks of the protocol by now: its version (header.ts), and under CURVE whose key it comes
// with and for which tower (keyHolder.ts). Here it gets the first free seats that fit, or is told why there are none.
// Invariant: a seat is taken from nobody who answers, however many ask for it.

import { setTimeout as sleep } from 'node:timers/promises';
import { PeerLostError, exitCodes } from '../spec/errors.ts';
import type { CoordinatorSocket } from '../protocol/coordinatorSocket.ts';
import { protocolVersion } from '../protocol/messages.ts';
import type { ToCoordinator } from '../protocol/messages.ts';
import type { Member } from './member.ts';
import type { Roster } from './roster.ts';
import { chooseSeats } from './seats.ts';

type Hello = Extract<ToCoordinator, { type: 'hello' }>;

/** How long one whose place somebody else asks for may take to answer: a stall of some seconds costs nobody their place. */
const claimMs = 5000;

export interface AdmissionOptions {
  readonly replicas: number;
  /** Of this coordinator. */
  readonly packageVersion: string;
  readonly say: (line: string) => void;
  /** Called at once when somebody has become a member. */
  readonly joined: (member: Member) => void;
  /** Called with whoever did not answer when another worker asked for their place. */
  readonly silent: (member: Member, error: PeerLostError) => void;
}

export class Admission {
  readonly #socket: CoordinatorSocket;
  readonly #roster: Roster;
  readonly #options: AdmissionOptions;

  constructor(socket: CoordinatorSocket, roster: Roster, options: AdmissionOptions) {
    this.#socket = socket;
    this.#roster = roster;
    this.#options = options;
  }

  /** Makes a member of who says hello, or refuses it; takes up to `claimMs` where its place is held by somebody silent. */
  async admit(workerId: string, hello: Hello): Promise<void> {
    const { replicas, packageVersion, say, joined } = this.#options;
    const roster = this.#roster;
    const place = `${hello.host}, pid ${String(hello.pid)}`;
    const wantedNow = () => chooseSeats(hello, roster.missing(), replicas);
    // A connection may have broken without our noticing, and its worker be back before we do.
    const holdersNow = (): readonly Member[] => {
      const isLeftToUs = hello.tower === 'auto' && hello.replica === 'auto' && roster.missing().length === 0;
      return isLeftToUs ? roster.members : roster.holders(wantedNow());
    };
    if (holdersNow().length > 0) await this.#giveUpSilent(holdersNow());
    const [holders, [first, ...second]] = [holdersNow(), wantedNow()];
    if (first === undefined || holders.length > 0) {
      this.#refuse(workerId, place, this.#whyRefused(hello, holders));
      return;
    }
    const wanted = [first, ...second] as const;
    if (hello.packageVersion !== packageVersion) {
      say(
        `a worker (${place}) has version ${hello.packageVersion}, this coordinator ${packageVersion}; both speak protocol ${String(protocolVersion)}`,
      );
    }
    const heard = { lastHeard: "'hello'", answers: true, isMute: false };
    const member: Member = { workerId, seats: wanted, place, credit: 0, isReady: false, ...heard };
    roster.add(member);
    say(`${roster.namesOf(wanted)}: ${place}, ${hello.device}`);
    const missing = roster.missing();
    if (missing.length > 0) say(`waiting for a worker for ${roster.namesOf(missing)}`);
    joined(member);
  }

  #whyRefused({ tower, replica }: Hello, holders: readonly Member[]): string {
    const { replicas } = this.#options;
    const names = holders.map((member) => this.#roster.describe(member)).join(' and ');
    if (holders.length === 0) return `there is no replica ${String(replica)}: the run has ${String(replicas)}, counted from 0`;
    if (tower !== 'auto') return `${names} is there already`;
    return `${replicas === 1 ? 'both towers' : 'all towers'} are taken: ${names}`;
  }

  #refuse(workerId: string, place: string, message: string): void {
    this.#options.say(`refused a worker (${place}): ${message}`);
    this.#socket.send(workerId, { type: 'refuse', step: 0, exitCode: exitCodes.refused, message });
    this.#socket.forget(workerId);
  }

  /** Reports those of `holders` who do not answer in time. */
  async #giveUpSilent(holders: readonly Member[]): Promise<void> {
    const isThere = (member: Member): boolean => this.#roster.members.includes(member);
    for (const member of holders) {
      member.answers = false;
      this.#socket.send(member.workerId, { type: 'ping', step: 0 });
    }
    for (let waited = 0; waited < claimMs && holders.some((member) => isThere(member) && !member.answers); waited += 50) {
      await sleep(50);
    }
    for (const member of holders) {
      if (!isThere(member) || member.answers) continue;
      this.#socket.release(
        member.workerId,
        `${this.#roster.describe(member)} did not answer, and another worker asked for its place`,
      );
      this.#options.silent(member, new PeerLostError('it does not answer, and another worker asks for its place'));
    }
  }
}
