import type { ContentId, FileName } from '../../common/ids.ts'
import type { LocatedProvider, StrategyName } from '../../common/schemas.ts'

/** What is looked for: an exact name, a content, or part of a name. */
export type LocateQuery =
  | { readonly kind: 'name'; readonly name: FileName }
  | { readonly kind: 'id'; readonly id: ContentId }
  | { readonly kind: 'text'; readonly text: string }

export type Provider = Omit<LocatedProvider, 'via'>

export interface LocateStrategy {
  readonly name: StrategyName
  /** whom it asks, for the explanation: a URL or `this peer` */
  readonly asked: string
  /**
   * Yields providers as they are found.
   * @throws NetworkError only where the strategy itself is unusable (`unavailable`, `limited`, …)
   */
  locate(query: LocateQuery, signal: AbortSignal): AsyncIterable<Provider>
}
