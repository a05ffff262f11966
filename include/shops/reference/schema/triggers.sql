-- The reference shop, 3 of 3: triggers that keep `updated_at`, and note what is deleted.
-- A record's own change stamps it; a child's change stamps its parents, once per statement however many rows it has.

CREATE FUNCTION stamp_updated_at() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    -- A statement that sets the time itself (an import, the triggers below) is taken at its word.
    IF NEW.updated_at IS NOT DISTINCT FROM OLD.updated_at THEN
        NEW.updated_at := clock_timestamp();
    END IF;
    RETURN NEW;
END $$;

-- Arguments: parent table, parent column, child column. Rows that an UPDATE leaves as they were touch nothing.
CREATE FUNCTION touch_parents() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    changed text := CASE TG_OP
        WHEN 'INSERT' THEN 'TABLE new_rows'
        WHEN 'DELETE' THEN 'TABLE old_rows'
        ELSE '(TABLE new_rows EXCEPT TABLE old_rows) UNION ALL (TABLE old_rows EXCEPT TABLE new_rows)'
    END;
BEGIN
    EXECUTE format(
        'UPDATE %I SET updated_at = clock_timestamp() WHERE %I IN (SELECT %I FROM (%s) AS changed)',
        TG_ARGV[0], TG_ARGV[1], TG_ARGV[2], changed
    );
    RETURN NULL;
END $$;

-- Orders and carts name their customer by e-mail towards the outside, so a new e-mail changes them; a new name does not.
CREATE FUNCTION touch_purchases_of_changed_emails() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    UPDATE orders SET updated_at = clock_timestamp()
    FROM old_rows JOIN new_rows USING (customer_id)
    WHERE orders.customer_id = new_rows.customer_id AND old_rows.email IS DISTINCT FROM new_rows.email;
    UPDATE carts SET updated_at = clock_timestamp()
    FROM old_rows JOIN new_rows USING (customer_id)
    WHERE carts.customer_id = new_rows.customer_id AND old_rows.email IS DISTINCT FROM new_rows.email;
    RETURN NULL;
END $$;

-- Arguments: entity, SQL of its key.
CREATE FUNCTION note_deletion() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    EXECUTE format(
        'INSERT INTO deleted_records (entity, record_id) SELECT %L, %s FROM old_rows', TG_ARGV[0], TG_ARGV[1]
    );
    RETURN NULL;
END $$;

DO $$
DECLARE
    stamped text;
    relation record;
BEGIN
    FOREACH stamped IN ARRAY ARRAY['customers', 'products', 'coupons', 'carts', 'orders'] LOOP
        EXECUTE format(
            'CREATE TRIGGER stamp_updated_at BEFORE UPDATE ON %I FOR EACH ROW WHEN (OLD.* IS DISTINCT FROM NEW.*) '
            'EXECUTE FUNCTION stamp_updated_at()', stamped
        );
    END LOOP;
    FOR relation IN
        SELECT * FROM (VALUES
            ('addresses', 'customers', 'customer_id', 'customer_id'),
            ('addresses', 'orders', 'shipping_address_id', 'address_id'),
            ('addresses', 'orders', 'billing_address_id', 'address_id'),
            ('newsletter_consents', 'customers', 'customer_id', 'customer_id'),
            ('newsletter_groups', 'customers', 'customer_id', 'customer_id'),
            ('categories', 'products', 'category_id', 'category_id'),
            ('variants', 'products', 'product_id', 'product_id'),
            ('product_images', 'products', 'product_id', 'product_id'),
            ('coupon_codes', 'coupons', 'coupon_id', 'coupon_id'),
            ('cart_lines', 'carts', 'cart_id', 'cart_id'),
            ('order_lines', 'orders', 'order_id', 'order_id'),
            ('order_promotions', 'orders', 'order_id', 'order_id')
        ) AS relations (child, parent, parent_column, child_column)
    LOOP
        EXECUTE format(
            'CREATE TRIGGER %I AFTER INSERT ON %I REFERENCING NEW TABLE AS new_rows '
            'FOR EACH STATEMENT EXECUTE FUNCTION touch_parents(%L, %L, %L)',
            'insert_touches_' || relation.parent || '_by_' || relation.parent_column,
            relation.child, relation.parent, relation.parent_column, relation.child_column
        );
        EXECUTE format(
            'CREATE TRIGGER %I AFTER UPDATE ON %I REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows '
            'FOR EACH STATEMENT EXECUTE FUNCTION touch_parents(%L, %L, %L)',
            'update_touches_' || relation.parent || '_by_' || relation.parent_column,
            relation.child, relation.parent, relation.parent_column, relation.child_column
        );
        EXECUTE format(
            'CREATE TRIGGER %I AFTER DELETE ON %I REFERENCING OLD TABLE AS old_rows '
            'FOR EACH STATEMENT EXECUTE FUNCTION touch_parents(%L, %L, %L)',
            'delete_touches_' || relation.parent || '_by_' || relation.parent_column,
            relation.child, relation.parent, relation.parent_column, relation.child_column
        );
    END LOOP;
    FOR relation IN
        SELECT * FROM (VALUES
            ('products', 'products', 'product_id::text'),
            ('customers', 'customers', 'customer_id::text'),
            ('carts', 'carts', 'cart_id::text'),
            ('orders', 'orders', 'order_id::text'),
            ('coupons', 'promo_rules', 'coupon_id::text'),
            ('coupon_codes', 'promo_codes', 'coupon_id || ''/'' || code_id')
        ) AS relations (deleted, entity, key)
    LOOP
        EXECUTE format(
            'CREATE TRIGGER note_deletion AFTER DELETE ON %I REFERENCING OLD TABLE AS old_rows '
            'FOR EACH STATEMENT EXECUTE FUNCTION note_deletion(%L, %L)',
            relation.deleted, relation.entity, relation.key
        );
    END LOOP;
END $$;

CREATE TRIGGER email_touches_purchases AFTER UPDATE ON customers REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
FOR EACH STATEMENT EXECUTE FUNCTION touch_purchases_of_changed_emails();
