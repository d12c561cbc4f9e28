-- Turnover by month of placing: orders, how they were decided, what was approved and what is paid.
select to_char(placed, 'YYYY-MM') as month,
       count(*) as orders,
       count(*) filter (where approved) as approved,
       count(*) filter (where state = 'REJECTED') as rejected,
       count(distinct customer) as customers,
       coalesce(sum(total) filter (where approved), 0.00)::text as approved_total,
       coalesce(sum(total) filter (where paid is not null), 0.00)::text as paid_total
from (
    select c.key as customer,
           o.value ->> 'state' as state,
           (o.value ->> 'approved')::boolean as approved,
           (o.value ->> 'total')::numeric as total,
           to_timestamp((o.value ->> 'placed')::numeric / 1000000) at time zone 'UTC' as placed,
           o.value ->> 'paid' as paid
    from {schema}.rows_of('customer-history') c
    cross join lateral jsonb_each(coalesce(c.row -> 'orders', '{}')) o
) line
group by 1
order by 1
