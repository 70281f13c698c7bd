// The workers of a run as the coordinator sees them: who holds which towers of which replica, what they have said, what is still missing.
// A run is a row of generations (docs/adr/0016-recovery.md). One ends with its first failure; whoever is still there is a member of the next,
// and who comes in between waits for it.
// Invariant: every wait ends (waits.ts), and its error names the tower, the step and the last thing heard of it. No message and no wait of
// one generation reaches into another.

import { performance } from 'node:perf_hooks';
import { setTimeout as sleep } from 'node:timers/promises';
import { CrosstowerError, PeerLostError, exitCodes } from '../spec/errors.ts';
import type { ExitCode } from '../spec/errors.ts';
import { shardsOf } from '../spec/shards.ts';
import type { CoordinatorSocket } from '../protocol/coordinatorSocket.ts';
import type { Message, Outgoing, ToCoordinator, ToWorker } from '../protocol/messages.ts';
import { batchPayload, readFloatsPayload } from '../protocol/payloads.ts';
import { rowsOf } from '../data/batch.ts';
import type { Batch } from '../data/batch.ts';
import { Admission } from './admission.ts';
import { HeardMessages, heardKey } from './heard.ts';
import type { Heard } from './heard.ts';
import type { Member } from './member.ts';
import { Placement } from './placement.ts';
import type { GenerationStart, RunFacts } from './placement.ts';
import { Roster } from './roster.ts';
import { seatsOf } from './seats.ts';
import type { Seat } from './seats.ts';
import { SentBatches } from './sentBatches.ts';
import { Waits } from './waits.ts';

/** How long a broken link may wait for the message that explains it. */
const explanationMs = 1500;
/** How long a worker may take to show that it is alive once the others have waited too long. */
const answerMs = 1000;
/** How long the workers may take to leave. */
const farewellMs = 1000;

export class WorkerGroup {
  /** Aborted once somebody told a worker to stop the run. */
  readonly stopRequested = new AbortController();
  readonly #socket: CoordinatorSocket;
  readonly #facts: RunFacts;
  readonly #seats: readonly Seat[];
  readonly #heard = new HeardMessages();
  readonly #roster: Roster;
  readonly #admission: Admission;
  #waits = new Waits();
  #sent = new SentBatches();
  /** Of this generation; none between two. */
  #placement: Placement | undefined;

  constructor(socket: CoordinatorSocket, facts: RunFacts, say: (line: string) => void) {
    this.#socket = socket;
    this.#facts = facts;
    const { replicas } = facts.config;
    this.#seats = seatsOf(replicas);
    this.#roster = new Roster(replicas);
    this.#admission = new Admission(socket, this.#roster, {
      replicas,
      packageVersion: facts.packageVersion,
      say,
      joined: (member) => {
        this.#placement?.assign(member);
        this.#waits.check();
      },
      silent: (member, error) => {
        this.#lose(member.workerId, error);
      },
    });
    this.#placement = this.#newPlacement(facts.start);
    void this.#listen();
  }

  get #members(): readonly Member[] {
    return this.#roster.members;
  }

  get generation(): number {
    return this.#socket.generation;
  }

  /** The last 64 headers, for a post-mortem. */
  recentHeaders(): string[] {
    return this.#socket.recentHeaders();
  }

  /** Whether nobody holds this seat. */
  isMissing(seat: Seat): boolean {
    return this.#roster.holders([seat]).length === 0;
  }

  /** Ends the generation; whoever did not answer when asked for the last time is given up. Settles when nothing of it is under way here. */
  async endGeneration(reason: Error): Promise<void> {
    this.fail(reason);
    const placement = this.#placement;
    this.#placement = undefined;
    await placement?.settled();
    for (const member of this.#members.filter(({ isMute }) => isMute)) {
      this.#roster.remove(member);
      this.#socket.release(member.workerId, `${this.#roster.describe(member)} did not answer`);
    }
  }

  /** Starts the next generation: everybody who is there returns to this state; `gather` waits for them. */
  startGeneration(start: GenerationStart): void {
    this.#socket.startGeneration(this.#socket.generation + 1);
    this.#heard.clear();
    this.#waits = new Waits();
    this.#sent = new SentBatches();
    const placement = this.#newPlacement(start);
    this.#placement = placement;
    for (const member of this.#members) {
      member.credit = 0;
      member.isReady = false;
      placement.assign(member);
    }
  }

  /** Waits until all towers are held, linked and ready, then starts them; throws PeerLostError naming the tower that is missing. */
  async gather(): Promise<void> {
    const { joinTimeout } = this.#facts.config;
    await this.#waits.until(() => this.#roster.missing().length === 0 && this.#members.every((member) => member.isReady), {
      ms: 1000 * joinTimeout,
      isLast: true,
      what: () => {
        const missing = this.#roster.missing();
        if (missing.length > 0) return `no worker for ${this.#roster.namesOf(missing)} joined at ${this.#socket.address}`;
        const late = this.#members.filter((member) => !member.isReady);
        return `${late.map((member) => this.#roster.describe(member)).join(' and ')} joined, but could not reach the other tower`;
      },
    });
    this.broadcast({ type: 'begin', step: 0 });
  }

  /** A message to every worker. */
  broadcast(header: Outgoing<ToWorker>, payload: readonly Uint8Array[] = []): void {
    this.#socket.sendAll(
      this.#members.map(({ workerId }) => workerId),
      header,
      payload,
    );
  }

  /** Waits until the workers of the first `replicas` replicas take another batch, and counts it as taken. */
  async takeCredit(replicas = this.#facts.config.replicas): Promise<void> {
    const members = (): Member[] => this.#members.filter(({ seats: [{ replica }] }) => replica < replicas);
    await this.#waits.until(() => members().every((member) => member.credit > 0));
    for (const member of members()) member.credit--;
  }

  /**
   * Sends every replica its rows of a batch; those that get none hear nothing of it. `whenRead`, of all batches or of
   * none, is called once nobody reads the batch here any more.
   */
  sendBatch(
    header: Pick<Extract<ToWorker, { type: 'batch' }>, 'kind' | 'step' | 'epoch' | 'index' | 'traced'>,
    batch: Batch,
    whenRead?: () => void,
  ): void {
    const shards = shardsOf(batch.labels.length, this.#facts.config.replicas);
    const readers = shards.map(({ count }, replica) =>
      this.#members.filter(({ seats }) => count > 0 && seats[0].replica === replica).map(({ workerId }) => workerId),
    );
    if (whenRead !== undefined) this.#sent.add(readers.flat(), whenRead);
    for (const [replica, shard] of shards.entries()) {
      const part = rowsOf(batch, shard);
      const hasColour = part.colour !== undefined;
      const whole = { type: 'batch', ...header, ...shard, ...part.shape, hasColour } as const;
      this.#socket.sendAll(readers[replica] ?? [], whole, batchPayload(part));
    }
  }

  /** Tells every worker what is decided on a step; replicas are alike, so that a snapshot is taken of the first. */
  sendDecision(decision: Outgoing<Extract<ToWorker, { type: 'decision' }>>): void {
    for (const isFirst of [true, false]) {
      const members = this.#members.filter(({ seats }) => (seats[0].replica === 0) === isFirst);
      const workerIds = members.map(({ workerId }) => workerId);
      this.#socket.sendAll(workerIds, { ...decision, snapshot: decision.snapshot && isFirst });
    }
  }

  /** What every tower says in `kind` at `step` (of batch `index`), in the order of the seats of the first `replicas` replicas. */
  async collect<K extends 'gradients' | 'stepDone' | 'trace' | 'evalResult' | 'weights'>(
    kind: K,
    step: number,
    { index = 0, replicas = this.#facts.config.replicas }: { index?: number; replicas?: number } = {},
  ): Promise<Heard<K>[]> {
    const key = heardKey(kind, step, index);
    const seats = seatsOf(replicas);
    await this.#waits.until(() => this.#heard.count(key) === seats.length, {
      ms: 1000 * this.#facts.config.stepTimeout,
      ask: () => this.#ask(),
      what: () => `step ${String(step)}: no '${kind}' from ${this.#describeSilent(key, seats)}`,
    });
    return this.#heard.take<K>(key, seats);
  }

  /** The state of the first replica after a step whose decision asked for it: block by block, each as both towers sent it. */
  async *collectSnapshot(step: number): AsyncGenerator<Heard<'weights'>[]> {
    const ask = (index: number): void => {
      for (const { workerId, seats } of this.#members)
        if (seats[0].replica === 0) this.#socket.send(workerId, { type: 'sendBlock', step, index });
    };
    ask(0);
    let total: number | undefined;
    for (let index = 0; total === undefined || index < total; index++) {
      // Blocks come in the same order from both towers; the next one travels while this one is written.
      const blocks = await this.collect('weights', step, { index, replicas: 1 });
      total = blocks[0]?.header.total ?? 0;
      if (index + 1 < total) ask(index + 1);
      yield blocks;
    }
  }

  /** The probabilities of a `predict` batch [count,classes], which tower 0 of the one replica sends; waits `ms` at most. */
  async collectPredictions(index: number, ms: number): Promise<Float32Array> {
    const key = heardKey('predictions', 0, index);
    await this.#waits.until(() => this.#heard.count(key) > 0, {
      ms,
      ask: () => this.#ask(),
      what: () => `batch ${String(index)}: no 'predictions' from ${this.#describeSilent(key, this.#seats)}`,
    });
    const [{ header, payload }] = this.#heard.take<'predictions'>(key, this.#seats) as [Heard<'predictions'>];
    return readFloatsPayload(payload, header.count * header.classes);
  }

  /** Waits for something that no worker has a part in; rejects as soon as the run cannot go on. */
  during<T>(work: Promise<T>): Promise<T> {
    return this.#waits.during(work);
  }

  /** The generation cannot go on: every wait ends, now and later, with the first reason. */
  fail(reason: Error): void {
    this.#waits.fail(reason);
  }

  /** The generation cannot go on, for the process in these seats has ended: the error is completed by what was last heard of it. */
  failProcess(which: readonly Seat[], error: CrosstowerError): void {
    const [member] = this.#roster.holders(which);
    if (member !== undefined) this.#roster.remove(member);
    const heard = member === undefined ? '' : `, last heard ${member.lastHeard}`;
    this.fail(new CrosstowerError(error.exitCode, `${error.message}${heard}`, { cause: error }));
  }

  /**
   * Sends everybody home with an exit code, and waits a second at most until they have left: were the socket closed before, a message that is
   * still on its way here would reset the connection, and what lies between the hosts (a tunnel, a proxy) might drop our last words.
   */
  async dismiss(exitCode: ExitCode, reason: string): Promise<void> {
    const leaving = this.#members;
    this.broadcast({ type: 'stop', step: 0, exitCode, reason: reason.slice(0, 4000) });
    // From now on nobody's end is a failure.
    this.#waits = new Waits();
    const deadline = performance.now() + farewellMs;
    while (leaving.some((member) => this.#members.includes(member)) && performance.now() < deadline) await sleep(5);
  }

  async #listen(): Promise<void> {
    for await (const event of this.#socket.events) {
      if (event.kind === 'lost') this.#lose(event.workerId, event.error);
      else this.#take(event.workerId, event.message);
      this.#waits.check();
    }
  }

  #take(workerId: string, message: Message<ToCoordinator>): void {
    const { header } = message;
    const member = this.#roster.find(workerId);
    if (header.type === 'hello') {
      void this.#admission.admit(workerId, header);
      return;
    }
    if (member === undefined) return;
    member.answers = true;
    member.isMute = false;
    if (header.type === 'pong') return;
    member.lastHeard = header.step > 0 ? `'${header.type}' of step ${String(header.step)}` : `'${header.type}'`;
    const [{ replica }] = member.seats;
    switch (header.type) {
      case 'link':
        this.#placement?.takeAddress(member, header);
        break;
      case 'ready':
        member.isReady = true;
        break;
      case 'credit':
        member.credit += header.count;
        if (header.step > 0) this.#sent.read(workerId);
        break;
      case 'gradients':
      case 'stepDone':
      case 'trace':
        this.#heard.add(heardKey(header.type, header.step, 0), { replica, tower: header.tower }, message);
        break;
      case 'evalResult':
      case 'predictions':
      case 'weights':
        this.#heard.add(heardKey(header.type, header.step, header.index), { replica, tower: header.tower }, message);
        break;
      case 'stranded':
        this.#takeStranding(member, header.message);
        break;
      case 'failed':
        this.#takeFailure(member, header.exitCode, header.message);
        break;
      case 'stopRequested':
        this.stopRequested.abort(header.signal);
        break;
      case 'bye':
        this.#roster.remove(member);
        break;
    }
  }

  #newPlacement(start: GenerationStart): Placement {
    return new Placement({
      ...{ socket: this.#socket, facts: this.#facts, roster: this.#roster, waits: this.#waits, start },
      ask: () => this.#ask(),
    });
  }

  #lose(workerId: string, error: CrosstowerError): void {
    const member = this.#roster.find(workerId);
    if (member === undefined) return;
    this.#roster.remove(member);
    this.fail(
      new PeerLostError(`${this.#roster.describe(member)} is lost, last heard ${member.lastHeard}: ${error.message}`, {
        cause: error,
      }),
    );
  }

  /** The worker leaves. */
  #takeFailure(member: Member, exitCode: ExitCode, message: string): void {
    this.#roster.remove(member);
    if (exitCode === exitCodes.peerLost) this.#takeStranding(member, message);
    else
      this.fail(
        new CrosstowerError(
          exitCode === exitCodes.done ? exitCodes.bug : exitCode,
          `${this.#roster.describe(member)}: ${message}`,
        ),
      );
  }

  /** A tower that lost its peer is not to blame: the peer's own failure, or its silence, is given a moment to show first. */
  #takeStranding(member: Member, message: string): void {
    const waits = this.#waits;
    setTimeout(() => {
      waits.fail(new PeerLostError(`${this.#roster.describe(member)}: ${message}`));
    }, explanationMs);
  }

  /** Who has not said this. One that waits for the other is not to blame: where some do not answer, they alone are named. */
  #describeSilent(key: string, asked: readonly Seat[]): string {
    const members = this.#roster.holders(this.#heard.silent(key, asked));
    const mute = members.filter((member) => !member.answers);
    if (mute.length === 0)
      return members.map((member) => `${this.#roster.describe(member)}, last heard ${member.lastHeard}`).join('; ');
    return mute
      .map((member) => `${this.#roster.describe(member)}, which does not answer, last heard ${member.lastHeard}`)
      .join('; ');
  }

  /** Finds out who is alive. */
  async #ask(): Promise<void> {
    for (const member of this.#members) member.answers = false;
    this.broadcast({ type: 'ping', step: 0 });
    await sleep(answerMs);
    for (const member of this.#members) member.isMute = !member.answers;
  }
}
