import { Counter, type Metric, type Registry } from 'prom-client'

/** Upper bounds of the latency histogram, in seconds. */
const BUCKETS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5]
const SECONDS = 'p2p_http_request_seconds'

/**
 * Counts and latencies of HTTP requests, kept in plain numbers and turned into Prometheus' form when it asks: its own
 * labelled metrics hash their labels at every call, which a route with tens of thousands of requests a second feels.
 */
export class RequestMetrics {
  readonly #routes = new Map<string, RouteMetrics>()

  constructor(registry: Registry) {
    const routes = this.#routes
    new Counter({
      name: 'p2p_http_requests_total',
      help: 'HTTP requests',
      labelNames: ['method', 'route', 'status'],
      registers: [registry],
      collect() {
        this.reset()
        for (const [route, metrics] of routes)
          for (const { method, status, count } of metrics.counts()) this.inc({ method, route, status }, count)
      },
    })
    const histogram = {
      name: SECONDS,
      get: async () => ({
        name: SECONDS,
        help: 'seconds until the response was ready',
        type: 'histogram',
        aggregator: 'sum',
        values: [...routes].flatMap(([route, metrics]) => metrics.times(route)),
      }),
    }
    // The registry asks no more of a metric than its name and `get`.
    registry.registerMetric(histogram as unknown as Metric)
  }

  record(method: string, route: string, status: number, ms: number): void {
    let metrics = this.#routes.get(route)
    if (!metrics) {
      metrics = new RouteMetrics()
      this.#routes.set(route, metrics)
    }
    metrics.record(method, status, ms / 1000)
  }
}

class RouteMetrics {
  readonly #counts = new Map<string, Map<number, number>>()
  /** requests by the first bucket that holds them; the last one has no bound */
  readonly #buckets = new Float64Array(BUCKETS.length + 1)
  #sum = 0

  record(method: string, status: number, seconds: number): void {
    let statuses = this.#counts.get(method)
    if (!statuses) {
      statuses = new Map()
      this.#counts.set(method, statuses)
    }
    statuses.set(status, (statuses.get(status) ?? 0) + 1)
    let i = 0
    while (i < BUCKETS.length && seconds > BUCKETS[i]!) i++
    this.#buckets[i]!++
    this.#sum += seconds
  }

  *counts() {
    for (const [method, statuses] of this.#counts)
      for (const [status, count] of statuses) yield { method, status, count }
  }

  times(route: string) {
    let count = 0
    const buckets = [...BUCKETS, '+Inf'].map((le, i) => {
      count += this.#buckets[i]!
      return { metricName: `${SECONDS}_bucket`, labels: { le, route }, value: count }
    })
    return [
      ...buckets,
      { metricName: `${SECONDS}_sum`, labels: { route }, value: this.#sum },
      { metricName: `${SECONDS}_count`, labels: { route }, value: count },
    ]
  }
}
