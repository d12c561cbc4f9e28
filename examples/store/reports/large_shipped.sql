-- Orders above an amount ($1) that are shipped, of customers opened after a day ($2): the rows of one
-- view joined with the events of the orders.
select c.key as customer,
       c.row ->> 'name' as name,
       o.entity_id as "order",
       o.document ->> 'total' as total,
       o.recorded as shipped
from {schema}.rows_of('customer-history') c
join {schema}.event o
    on o.kind = 1 and o.entity_type = 'order' and o.event_type = 'Shipped'
   and o.document ->> 'customer' = c.key
where (o.document ->> 'total')::numeric > $1::text::numeric
  and to_timestamp((c.row ->> 'opened')::numeric / 1000000) > $2::text::timestamptz
order by (o.document ->> 'total')::numeric desc, "order"
