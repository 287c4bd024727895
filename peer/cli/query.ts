import { Option } from 'commander'
import { type ContentId, type FileName, isContentId, parseFileName, shortId } from '../../common/ids.ts'
import { STRATEGIES } from '../../common/schemas.ts'

/** What a person typed for FILE: a content id is recognised by its 64 hex digits, anything else is a name. */
export type ExactQuery = { id: ContentId; file?: never } | { file: FileName; id?: never }

/** @throws NetworkError `invalid` where it can be no file's name */
export function parseQuery(text: string): ExactQuery {
  const id = text.toLowerCase()
  return isContentId(id) ? { id } : { file: parseFileName(text) }
}

/** How the query reads in a sentence. */
export function queryText(query: ExactQuery): string {
  return query.file === undefined ? `content ${shortId(query.id)}…` : `"${query.file}"`
}

export function viaOption(): Option {
  return new Option('--via <strategy>', 'ask only this way').choices(STRATEGIES)
}
