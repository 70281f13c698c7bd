// What a soak has to tell, kept in a file from the first fault on: who reads it may find the soak itself gone (scripts/soak.mjs).

import { renameSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';

export class SoakReport {
  /** Whole ones, in the same bytes as the first. */
  runs = 0;
  returns = 0;
  stepsLost = 0;
  coordinators = 0;
  workers = 0;
  /** What ended the soak, if not the end of its time. */
  end = 'cut off';
  readonly #injected = new Map<string, number>();
  readonly #hangs: string[] = [];
  readonly #title: string;
  readonly #folder: string | undefined;

  /** Without a folder it is not written. */
  constructor(title: string, folder: string | undefined) {
    this.#title = title;
    this.#folder = folder;
  }

  get faults(): number {
    return [...this.#injected.values()].reduce((sum, count) => sum + count, 0);
  }

  injected(name: string): void {
    this.#injected.set(name, (this.#injected.get(name) ?? 0) + 1);
    this.write();
  }

  hung(what: string): void {
    this.#hangs.push(what);
    this.write();
  }

  write(): void {
    if (this.#folder === undefined) return;
    const path = join(this.#folder, 'report');
    const lines = [
      `soak: ${this.#title}: ${this.end}`,
      `${this.runs} whole runs, the first left alone; every one of them ended in the same bytes`,
      ...[...this.#injected].sort().map(([name, count]) => `  ${String(count).padStart(4)}  ${name}`),
      `${this.faults} faults injected; ${this.returns} returns to a commit, ${this.workers} workers and ${this.coordinators} coordinators started again`,
      `at least ${this.stepsLost} steps done again; hangs: ${this.#hangs.length === 0 ? 'none' : this.#hangs.join('; ')}`,
    ];
    writeFileSync(`${path}.tmp`, lines.join('\n'));
    renameSync(`${path}.tmp`, path);
  }
}
