import type { z } from 'zod'
import { printable } from './ids.ts'

/** What a validator found wrong with a value from outside, told to people. */

type Issue = z.core.$ZodIssue

const TYPES: Record<string, string> = {
  string: 'a text',
  number: 'a number',
  int: 'a whole number',
  boolean: 'true or false',
  array: 'a list',
  object: 'an object',
}
const LONGEST_VALUE = 60

/**
 * A sentence on the first issue: which value of `input`, what was given, what is allowed. `part` says what
 * `input` is: `query`, `body`.
 */
export function issueText(issues: readonly Issue[], input: unknown, part: string): string {
  const issue = innermost(issues[0])
  if (!issue) return `the ${part} is not valid`
  const subject = issue.path.length === 0 ? `the ${part}` : `${printable(issue.path.join('.'))} in the ${part}`
  if (issue.code === 'custom') return `${subject}: ${issue.message}`
  const value = issue.path.reduce<unknown>(
    (inner, key) => (inner as Record<PropertyKey, unknown> | undefined)?.[key],
    input,
  )
  return `${subject} ${value === undefined ? 'is missing' : `is ${shown(value)}`}: ${demand(issue)}`
}

/** What a value with this issue would have to be: `it must be a whole number`. */
export function demand(issue: Issue): string {
  const must = requirement(issue)
  return must === undefined ? issue.message : `it must ${must}`
}

/** Undefined where the schema has its own words for it. */
function requirement(issue: Issue): string | undefined {
  switch (issue.code) {
    case 'invalid_type':
      return `be ${TYPES[issue.expected] ?? issue.expected}`
    case 'too_big':
      return bound('at most', issue.origin, issue.maximum)
    case 'too_small':
      return bound('at least', issue.origin, issue.minimum)
    case 'invalid_value':
      return `be ${issue.values.length > 1 ? 'one of ' : ''}${issue.values.join(', ')}`
    case 'unrecognized_keys':
      return `not have "${printable(issue.keys.join('", "'))}"`
    case 'invalid_union':
      return issue.errors.map(([first]) => first && requirement(first)).join(' or ')
    default:
      return undefined
  }
}

function bound(side: 'at most' | 'at least', origin: string, limit: number | bigint): string {
  if (origin !== 'string' && origin !== 'array') return `be ${side} ${limit}`
  if (side === 'at least' && Number(limit) === 1) return 'not be empty'
  return `have ${side} ${limit} ${origin === 'string' ? 'characters' : 'entries'}`
}

/** Of a union the branch that fits the value's type, where one does: what is wrong further inside says more. */
function innermost(issue: Issue | undefined): Issue | undefined {
  if (issue?.code !== 'invalid_union') return issue
  const inner = issue.errors
    .map(([first]) => first)
    .find((first) => first && (first.code !== 'invalid_type' || first.path.length > 0))
  return inner ? innermost({ ...inner, path: [...issue.path, ...inner.path] }) : issue
}

function shown(value: unknown): string {
  if (Array.isArray(value)) return `a list of ${value.length}`
  if (typeof value === 'object' && value !== null) return 'an object'
  return typeof value === 'string' ? `"${printable(value, LONGEST_VALUE)}"` : printable(String(value), LONGEST_VALUE)
}
