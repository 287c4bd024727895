import type { FollowBody } from '../../common/events/rest.ts'
import type { Rule } from './follow-store.ts'
import type { Account } from './ledger.ts'
import { type Pattern, parsePattern } from './pattern.ts'

const MAX_LEFT_OUT = 100

/** One rule at work. */
export class Followed {
  rule: Rule
  readonly pattern: Pattern
  /** something is left out that more room would let in */
  short = false
  /** why which name was not fetched, the latest last */
  readonly #leftOut = new Map<string, string>()

  constructor(rule: Rule) {
    this.rule = rule
    this.pattern = parsePattern(rule.pattern)
  }

  leaveOut(name: string, why: string): void {
    this.#leftOut.delete(name)
    this.#leftOut.set(name, why)
    if (this.#leftOut.size > MAX_LEFT_OUT) this.#leftOut.delete(this.#leftOut.keys().next().value!)
  }

  /** It is here, or on its way. */
  let(name: string): void {
    this.#leftOut.delete(name)
  }

  body({ here, wanted }: Account): FollowBody {
    const { pattern, quota, since } = this.rule
    return {
      pattern,
      quota,
      bytes: here.bytes,
      files: here.files,
      fetching: wanted.files,
      left_out: [...this.#leftOut].reverse().map(([name, why]) => ({ name, why })),
      since: new Date(since).toISOString(),
    }
  }
}
