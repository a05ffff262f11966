-- No join: customers and addresses are looked up by their ids, which is cheaper than one wide join per slice.
-- The subqueries on shop run once per statement, not once per row.
SELECT
    orders.order_id,
    orders.updated_at,
    orders.customer_id,
    orders.placed_at,
    orders.currency_code::text AS currency_code,
    orders.order_total,
    orders.status,
    orders.tax_total,
    orders.shipping_total,
    orders.discount_total,
    (SELECT 'https://' || shop.domain || '/account/orders/' FROM shop) || orders.number AS order_url,
    orders.cart_id,
    orders.campaign_id,
    orders.landing_site,
    orders.tracking_code,
    orders.cancelled_at,
    orders.tracking_number,
    orders.tracking_carrier,
    (SELECT 'https://' || shop.domain || '/track/' FROM shop) || orders.tracking_number AS tracking_url,
    orders.shipping_address_id,
    orders.billing_address_id,
    orders.deleted_at IS NOT NULL AS is_deleted
FROM orders
