import { readFileSync } from 'node:fs'
import { dirname, resolve } from 'node:path'
import { Option } from 'commander'
import { z } from 'zod'
import { errnoOf, NetworkError } from './errors.ts'
import { printable } from './ids.ts'
import { demand } from './issue.ts'

/**
 * Configuration: a JSON file, overridden by environment variables (`P2P_` and the key in capitals), overridden by
 * flags; read raw, then validated as one into a frozen object. Every key is documented by its description here.
 */
export interface ConfigSources {
  /** Path of the JSON file; without one, environment and flags are all there is. */
  file?: string | undefined
  env: Readonly<Record<string, string | undefined>>
  /** Keys as in the file; values as typed. */
  flags: Readonly<Record<string, string | undefined>>
}

const PATH = 'path'
const SECRET = 'secret'
/** A path; relative ones count from the configuration file's own folder, or from the working folder for env and flags. */
export const pathKey = () => z.string().min(1).meta({ kind: PATH })

/** A key whose value may hold a password: an error about it does not show it. */
export const secretKey = <S extends z.ZodType>(schema: S): S => schema.meta({ kind: SECRET })

export const portKey = () => z.int().min(0).max(65535)

/**
 * @throws NetworkError `invalid`, naming the source and the key
 */
export function loadConfig<Shape extends z.ZodRawShape>(
  schema: z.ZodObject<Shape>,
  sources: ConfigSources,
): Readonly<z.infer<z.ZodObject<Shape>>> {
  const raw: Record<string, unknown> = sources.file === undefined ? {} : readConfigFile(sources.file)
  const origin = new Map<string, string>()
  const keys = Object.keys(schema.shape)
  for (const key of Object.keys(raw)) {
    if (!keys.includes(key)) throw unknownKey(sources.file ?? '', key, keys)
    origin.set(key, sources.file ?? '')
  }
  const folder = sources.file === undefined ? process.cwd() : dirname(resolve(sources.file))
  for (const key of keys)
    if (isOfKind(schema.shape[key], PATH) && typeof raw[key] === 'string') raw[key] = resolve(folder, raw[key])
  for (const key of keys) {
    const variable = envName(key)
    override(key, sources.env[variable], `environment variable ${variable}`)
    override(key, sources.flags[key], `flag ${flagName(key)}`)
  }
  const parsed = schema.safeParse(raw)
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!
    const key = String(issue.path[0] ?? '')
    const where = origin.get(key) ?? sources.file ?? 'configuration'
    if (raw[key] === undefined) throw missingKey(where, key)
    const field = schema.shape[key] as z.ZodType | undefined
    const shown = isOfKind(field, SECRET) ? '' : ` ${printable(JSON.stringify(raw[key]) ?? '')}`
    throw new NetworkError('invalid', `${where}: the key "${key}" has a bad value${shown}: ${demand(issue)}`, { key })
  }
  return Object.freeze(parsed.data)

  function override(key: string, text: string | undefined, source: string): void {
    if (text === undefined) return
    const field = schema.shape[key] as z.ZodType
    origin.set(key, source)
    if (isOfKind(field, PATH)) raw[key] = resolve(text)
    else raw[key] = field.safeParse(text).success ? text : jsonOr(text)
  }
}

export function envName(key: string): string {
  return `P2P_${key.toUpperCase()}`
}

/** `grpc_port` → `--grpc-port` */
function flagName(key: string): string {
  return `--${key.replaceAll('_', '-')}`
}

/** A flag for every key, with its meaning and default. */
export function configOptions(schema: z.ZodObject): Option[] {
  return Object.entries(schema.shape).map(([key, field]) => {
    const { success, data } = field.safeParse(undefined)
    const fallback = !success ? ' (required)' : data === undefined ? '' : ` (default ${JSON.stringify(data)})`
    return new Option(`${flagName(key)} <value>`, `${(field as z.ZodType).description ?? ''}${fallback}`)
  })
}

/** The flags among what commander has read, by the keys that they are for. */
export function configFlags(
  schema: z.ZodObject,
  read: Readonly<Record<string, string | undefined>>,
): Record<string, string | undefined> {
  return Object.fromEntries(
    Object.keys(schema.shape).map((key) => [key, read[new Option(flagName(key)).attributeName()]]),
  )
}

function readConfigFile(file: string): Record<string, unknown> {
  let text: string
  try {
    text = readFileSync(file, 'utf8')
  } catch (error) {
    const why =
      errnoOf(error) === 'ENOENT' ? 'there is no such configuration file' : `it can't be read (${errnoOf(error)})`
    throw new NetworkError('invalid', `${file}: ${why}`)
  }
  let value: unknown
  try {
    value = JSON.parse(text)
  } catch (error) {
    throw new NetworkError('invalid', `${file}: not valid JSON: ${(error as Error).message}`)
  }
  if (typeof value !== 'object' || value === null || Array.isArray(value))
    throw new NetworkError('invalid', `${file}: a configuration is a JSON object`)
  return value as Record<string, unknown>
}

function missingKey(where: string, key: string): NetworkError {
  const ways = `in a file given by --config, by ${flagName(key)}, or by ${envName(key)}`
  return new NetworkError('invalid', `${where}: the key "${key}" is missing: give it ${ways}`, { key })
}

function unknownKey(file: string, key: string, known: string[]): NetworkError {
  const near = known.find((k) => editDistance(k, key) <= 2)
  const hint = near ? ` (did you mean "${near}"?)` : `; known keys: ${known.join(', ')}`
  return new NetworkError('invalid', `${file}: unknown key "${printable(key)}"${hint}`, { key })
}

/** Letters to insert, leave out or replace, until one is the other; where the lengths tell of more than 2, just that. */
export function editDistance(a: string, b: string): number {
  const least = Math.abs(a.length - b.length)
  if (least > 2) return least
  let row = Array.from({ length: b.length + 1 }, (_, j) => j)
  for (let i = 1; i <= a.length; i++) {
    const next = [i]
    for (let j = 1; j <= b.length; j++)
      next[j] = Math.min(row[j]! + 1, next[j - 1]! + 1, row[j - 1]! + (a[i - 1] === b[j - 1] ? 0 : 1))
    row = next
  }
  return row[b.length]!
}

function isOfKind(field: unknown, kind: typeof PATH | typeof SECRET): boolean {
  let type = field as z.ZodType | undefined
  while (type) {
    if (type.meta()?.kind === kind) return true
    type = (type.def as unknown as { innerType?: z.ZodType }).innerType
  }
  return false
}

function jsonOr(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch {
    return text
  }
}
