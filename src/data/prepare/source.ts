// What `--from` names: ILSVRC2012's three files, a folder of pictures or a list of them. Told by looking.

import { stat } from 'node:fs/promises';
import { DataError } from '../../spec/errors.ts';
import type { FileDataOptions } from '../imageFolder.ts';
import { imageFolder, isImageFolder } from '../imageFolder.ts';
import type { Dataset, EncodedStore } from '../pictures.ts';
import { textList } from '../textList.ts';
import { imageNetFolder, isImageNetFolder } from './imageNet.ts';

/** Finds the pictures of a source; throws DataError naming what is missing or wrong. */
export async function findSource(from: string, options: FileDataOptions): Promise<Dataset<EncodedStore>> {
  const kind = await stat(from).catch((error: unknown) => {
    throw new DataError(`there is no ${from}`, { cause: error });
  });
  if (kind.isFile()) return textList(from, options);
  if (isImageNetFolder(from)) return imageNetFolder(from, options.rule);
  if (await isImageFolder(from)) return imageFolder(from, options);
  throw new DataError(`${from} holds neither the tars of ILSVRC2012 nor a folder for each class`);
}
