import { Option } from 'commander'
import { NetworkError } from '../../common/errors.ts'
import { type ContentId, type FileName, isContentId, parseFileName, printable, shortId } from '../../common/ids.ts'
import { STRATEGIES } from '../../common/schemas.ts'

/** What a person typed for FILE: a content id is recognised by its 64 hex digits, anything else is a name. */
export type ExactQuery = { id: ContentId; file?: never } | { file: FileName; id?: never }

/** @throws NetworkError `invalid` where it can be no file's name */
export function parseQuery(text: string): ExactQuery {
  const id = text.toLowerCase()
  return isContentId(id) ? { id } : { file: parseFileName(text) }
}

/** What people type of a content id: as many digits as tables show, or a few less. */
const BEGINNING = /^[0-9a-f]{8,64}$/

/** @throws NetworkError `invalid` */
export function parseIdBeginning(text: string): string {
  const digits = text.toLowerCase()
  if (BEGINNING.test(digits)) return digits
  throw new NetworkError(
    'invalid',
    `--id is "${printable(text)}": it must be the first 8 or more hex digits of a content id`,
  )
}

/** What to add where nobody has a file of such a name, and it looks like the beginning of a content id; else nothing. */
export function beginningHint({ file }: ExactQuery): string {
  if (file === undefined || !BEGINNING.test(file.toLowerCase())) return ''
  return `. If it is the beginning of a content id: give all 64 digits ("peer search TEXT --wide" and "peer list --wide" show them), or the name and --id ${file}`
}

/** How the query reads in a sentence. */
export function queryText(query: ExactQuery): string {
  return query.file === undefined ? `content ${shortId(query.id)}…` : `"${query.file}"`
}

export function viaOption(): Option {
  return new Option('--via <strategy>', 'ask only this way').choices(STRATEGIES)
}
