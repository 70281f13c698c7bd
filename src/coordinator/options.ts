// The config's fields as command-line flags and as a file: names, help and defaults come from the schema, so that none can be forgotten.

import { readFileSync } from 'node:fs';
import { parse } from 'yaml';
import { z } from 'zod';
import { parseRunConfig, runConfigSchema } from '../spec/config.ts';
import type { RunConfig } from '../spec/config.ts';
import { UsageError } from '../spec/errors.ts';
import { withPreset } from '../spec/presets.ts';
import type { Flag } from './command.ts';

/** What JSON Schema says of one field. */
interface FieldSchema {
  readonly type?: string;
  readonly description?: string;
  readonly default?: unknown;
  readonly enum?: readonly string[];
  readonly items?: { readonly type?: string };
}

const fields = z.toJSONSchema(runConfigSchema, { io: 'input' }).properties as Readonly<Record<string, FieldSchema>>;

/** A field's value as it would be typed; nothing for none. */
function valueText(value: unknown): string {
  if (value === undefined) return '';
  return Array.isArray(value) ? value.join(',') : typeof value === 'string' ? value : JSON.stringify(value);
}

/** `lrSteps` as `lr-steps`. */
function flagName(field: string): string {
  return field.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** One flag per config field. None has a yargs default: what is not typed comes from the file, then from the schema. */
export function configFlags(): Record<string, Flag> {
  return Object.fromEntries(
    Object.entries(fields).map(([field, schema]) => {
      const isNumber = schema.type === 'number' || schema.type === 'integer';
      const fallback = valueText(schema.default);
      const flag: Flag = {
        group: 'The run:',
        type: isNumber ? 'number' : 'string',
        requiresArg: true,
        describe: `${schema.description ?? ''}${fallback === '' ? '' : ` [default: ${fallback}]`}`,
        ...(schema.enum === undefined ? {} : { choices: schema.enum }),
      };
      return [flagName(field), flag];
    }),
  );
}

/** The config from a YAML or JSON file, if any, with the typed flags over it and the preset that either names below it; throws UsageError naming each field that is wrong. */
export function readConfig(file: string | undefined, flags: Readonly<Record<string, unknown>>): RunConfig {
  return parseRunConfig(withPreset(givenFields(file, flags)), sourceName(file));
}

/** As `readConfig`, over the config of a run that goes on. */
export function changeConfig(before: RunConfig, file: string | undefined, flags: Readonly<Record<string, unknown>>): RunConfig {
  return parseRunConfig({ ...before, ...givenFields(file, flags) }, sourceName(file));
}

function sourceName(file: string | undefined): string {
  return file === undefined ? 'flags' : `${file} and flags`;
}

/** What somebody has said, unchecked: the file's fields and the typed flags over them. */
function givenFields(file: string | undefined, flags: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const fromFile = file === undefined ? {} : readFields(file);
  return { ...fromFile, ...typedFields(flags) };
}

/** The config fields among the typed flags, unchecked; throws UsageError where one was given twice or a list holds no numbers. */
export function typedFields(flags: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const typed: Record<string, unknown> = {};
  for (const [field, schema] of Object.entries(fields)) {
    const value = flags[flagName(field)];
    if (value === undefined) continue;
    if (Array.isArray(value)) throw new UsageError(`--${flagName(field)} was given ${String(value.length)} times`);
    typed[field] = schema.type === 'array' ? parseList(flagName(field), valueText(value), schema) : value;
  }
  return typed;
}

function parseList(flag: string, text: string, { items }: FieldSchema): (number | string)[] {
  if (items?.type === 'string') return text.split(',').map((name) => name.trim());
  const numbers = text.split(',').map(Number);
  if (text === '' || numbers.some(Number.isNaN))
    throw new UsageError(`--${flag} takes numbers with commas between, not '${text}'`);
  return numbers;
}

/** What a YAML or JSON file says, unchecked; throws UsageError where it cannot be read or holds no fields. */
export function readFields(file: string): object {
  let content: unknown;
  try {
    content = parse(readFileSync(file, 'utf8'), { maxAliasCount: 50 });
  } catch (error) {
    throw new UsageError(`${file} could not be read: ${error instanceof Error ? error.message : String(error)}`, {
      cause: error,
    });
  }
  if (content === null) return {};
  if (typeof content !== 'object' || Array.isArray(content))
    throw new UsageError(`${file} holds no fields: a line looks like 'batch: 128'`);
  return content;
}

/** The fields that differ from their defaults, in one line. */
export function configInShort(config: RunConfig): string {
  const defaults: Readonly<Record<string, unknown>> = runConfigSchema.parse({});
  const changed = Object.entries(config).filter(
    ([field, value]) => ['network', 'data'].includes(field) || JSON.stringify(value) !== JSON.stringify(defaults[field]),
  );
  return changed.map(([field, value]) => `${flagName(field)} ${valueText(value)}`).join(', ');
}
