import { NetworkError } from './errors.ts'

declare const brand: unique symbol
type Branded<T, Name extends string> = T & { readonly [brand]: Name }

/** BEP 52 pieces root of a file's bytes: 64 lower-case hex digits. */
export type ContentId = Branded<string, 'ContentId'>
/** A peer's configured name: 1 to 64 of `A-Z a-z 0-9 . _ -`, beginning with a letter or digit. */
export type PeerId = Branded<string, 'PeerId'>
/** A shared file's name: a relative path with `/`, safe to join below a folder (see parseFileName). */
export type FileName = Branded<string, 'FileName'>

export const CONTENT_ID = /^[0-9a-f]{64}$/
const PEER_ID = /^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$/

/** Bounds on names, in UTF-8 bytes. */
export const MAX_NAME_BYTES = 1024
const MAX_COMPONENT_BYTES = 255

export function isContentId(text: string): text is ContentId {
  return CONTENT_ID.test(text)
}

/** @throws NetworkError `invalid` */
export function parseContentId(text: string): ContentId {
  const id = text.toLowerCase()
  if (!isContentId(id))
    throw new NetworkError('invalid', `"${printable(text)}" is not a content id: it has 64 hex digits`)
  return id
}

/** A content id as people are shown it: its first 12 digits, enough to tell by eye. */
export function shortId(id: ContentId): string {
  return id.slice(0, 12)
}

/** @throws NetworkError `invalid` */
export function parsePeerId(text: string): PeerId {
  if (!PEER_ID.test(text))
    throw new NetworkError('invalid', `"${printable(text)}" is not a peer id: 1 to 64 letters, digits, ".", "_" or "-"`)
  return text as PeerId
}

const PLAIN = /^[A-Za-z0-9_ ()+,=@-][A-Za-z0-9_ ()+,=@.-]*$/
const FORBIDDEN = /[\p{Cc}\p{Cf}\p{Cs}\p{Co}\p{Zl}\p{Zp}\p{Noncharacter_Code_Point}]/u
const WINDOWS_DEVICE = /^(con|prn|aux|nul|com[0-9¹²³]|lpt[0-9¹²³])(\.|$)/i

/** Why `text` can't name a shared file; undefined where it can. */
function nameFault(text: string): string | undefined {
  if (text.length === 0) return 'it is empty'
  if (text.length > MAX_NAME_BYTES || Buffer.byteLength(text) > MAX_NAME_BYTES)
    return `it is longer than ${MAX_NAME_BYTES} bytes`
  if (text.includes('\\')) return 'it has a backslash'
  if (text.startsWith('/')) return 'it is an absolute path'
  for (const component of text.split('/')) {
    const fault = componentFault(component)
    if (fault) return fault
  }
  return undefined
}

function componentFault(component: string): string | undefined {
  if (component === '') return 'it has an empty part'
  if (component === '.' || component === '..') return 'it climbs out of the shared folder'
  if (component.startsWith('.')) return 'a part of it begins with "." (hidden files are not shared)'
  if (component.endsWith('.') || component.endsWith(' ')) return 'a part of it ends with "." or a space'
  if (WINDOWS_DEVICE.test(component)) return 'a part of it is a reserved device name'
  if (PLAIN.test(component) && component.length <= MAX_COMPONENT_BYTES) return undefined
  if (Buffer.byteLength(component) > MAX_COMPONENT_BYTES)
    return `a part of it is longer than ${MAX_COMPONENT_BYTES} bytes`
  if (FORBIDDEN.test(component)) return 'it has control, formatting or private characters'
  if (component.normalize('NFC') !== component) return 'it is not in Unicode normal form C'
  // Full-width and other compatibility forms of "/", "\" and "." must not read as a path anywhere down the line.
  const folded = component.normalize('NFKC')
  if (/[/\\∕⁄⧵⧸]/.test(folded) || /^[.․]/.test(folded)) return 'it has characters that look like path separators'
  return undefined
}

/**
 * A name from a person or the network. Unicode is brought to normal form C first, so that the same text typed on
 * two systems is one name.
 * @throws NetworkError `invalid`, saying what is wrong with it
 */
export function parseFileName(text: string): FileName {
  const name = text.normalize('NFC')
  const fault = nameFault(name)
  if (fault) throw new NetworkError('invalid', `"${printable(text)}" can't name a shared file: ${fault}`)
  return name as FileName
}

export function isFileName(text: string): text is FileName {
  return nameFault(text) === undefined
}

/** `text` cut to `limit` characters, with control and formatting characters escaped: safe to print and to log. */
export function printable(text: string, limit = 120): string {
  const escaped = text
    .slice(0, limit + 1)
    .replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}]/gu, (c) => `\\u{${c.codePointAt(0)?.toString(16)}}`)
  return escaped.length > limit ? `${escaped.slice(0, limit)}…` : escaped
}
